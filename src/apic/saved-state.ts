/**
 * Everything about one APIC, so that another one can go on from there: what KVM_GET_LAPIC has, and what it has not (base,
 * pending INIT, SIPI, NMIs and SMIs, a waiting timer expiry, the ISR cache, what is left of the timer). The whole block is
 * taken word for word (layout.ts), so nothing in it can be forgotten; only times change, from the clock to "from now".
 * Only the owner calls these, while nobody sends.
 */
import { hex } from '../hex.ts';
import type { ApicCore } from './core.ts';
import { APIC_WORDS, CONTROL } from './layout.ts';

/** As JSON can carry it. */
export interface LocalApicState {
  readonly apicId: number;
  /** The APIC's block, signed 32-bit words. */
  readonly block: readonly number[];
  /** When the timer's target is, in nanoseconds from now; not above 0 once it was reached. */
  readonly timerTargetNanos: number;
}

const targetOf = ({ a }: ApicCore): number => (a + CONTROL.TIMER_TARGET) >>> 1; // an index of doubles

export function saveState(core: ApicCore, nowNanos: number): LocalApicState {
  const { memory, words, a, apicId } = core;
  return {
    apicId,
    block: Array.from(words.subarray(a, a + APIC_WORDS)),
    timerTargetNanos: memory.doubles[targetOf(core)] - nowNanos,
  };
}

/** The map is marked dirty, not rebuilt. Throws RangeError for a state of another APIC ID or of another shape. */
export function restoreState(core: ApicCore, { apicId, block, timerTargetNanos }: LocalApicState, now: number): void {
  if (apicId !== core.apicId) {
    throw new RangeError(`this is the state of APIC ID ${hex(apicId)}, not of ${hex(core.apicId)}`);
  }
  if (block.length !== APIC_WORDS) throw new RangeError(`an APIC's block has ${APIC_WORDS} words, not ${block.length}`);
  core.words.set(block, core.a);
  core.memory.doubles[targetOf(core)] = now + timerTargetNanos;
  core.identityChanged();
}
