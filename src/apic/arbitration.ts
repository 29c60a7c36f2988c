/**
 * Lowest priority, second half: the addressed APICs are known, which of them takes the message? An ApicBehaviour answers
 * that in `arbitrate`; here is KVM's way, and what a sender may read of another APIC to find another way.
 *
 * A sender may read three things of an APIC that is not its own, at any time: its identity record (identity.ts), how many
 * lowest-priority messages it was offered, and its PPR. They are words that only move forward in their owner's program
 * order, so a sender may see an older value, never half of one. Everything else of the page is the owner's alone.
 */
import { type ApicMemory, INBOX } from './layout.ts';
import { REG } from './registers.ts';

/** In a list of candidates: an addressed bit of the logical map that no APIC has. */
export const NOBODY = -1;

/** How many lowest-priority messages this vCPU was offered since its reset: a counter that wraps (KVM's apic_arb_prio). */
export const arbitrationCount = (memory: ApicMemory, vcpuIndex: number): number =>
  Atomics.load(memory.words, memory.block(vcpuIndex) + INBOX.ARB_PRIORITY);

/** PPR of this vCPU, 0-255, as after its last change of TPR or ISR. */
export const processorPriority = (memory: ApicMemory, vcpuIndex: number): number =>
  memory.words[memory.block(vcpuIndex) + (REG.PPR >>> 2)] & 0xff;

/**
 * Vector hashing (kvm_vector_to_index): the (vector mod n)th of n candidates, also if that is nobody. Without it
 * (kvm_apic_compare_prio) the one that was offered the fewest.
 * @returns an index into `candidates`, or -1 for none
 */
export function arbitrateAsKvm(memory: ApicMemory, candidates: Int32Array, count: number, vector: number): number {
  if (count === 0) return -1;
  if (memory.options.vectorHashing) return memory.rules.vectorHashing ? vector % count : 0;
  let best = -1;
  let fewest = 0;
  for (let i = 0; i < count; i++) {
    if (candidates[i] === NOBODY) continue;
    const offered = arbitrationCount(memory, candidates[i]);
    if (best >= 0 && ((offered - fewest) | 0) >= 0) continue;
    best = i;
    fewest = offered;
  }
  return best;
}
