/**
 * A routing decision in words: what the map says and what a scan says about one message, without sending it. Allocates; it
 * is for traces, the conformance harness and people. The answers come from the same functions that route.
 */
import { BROADCAST, DELIVERY, SHORTHAND } from './fields.ts';
import { isSoftwareEnabled } from './identity.ts';
import type { ApicMemory } from './layout.ts';
import { REASON_TEXT } from './reasons.ts';
import { FROM_DEVICE, type Router } from './router.ts';

/** A message between APICs (KVM's struct kvm_lapic_irq). */
export interface ApicMessage {
  /** vCPU index of the sender; absent for a device (MSI, I/O APIC). */
  readonly source?: number;
  /** Physical ID, or logical ID with `logical`: 0-0xffffffff. */
  readonly destination: number;
  /** Default false: physical. */
  readonly logical?: boolean;
  /** 0-7 (DELIVERY). Default 0, fixed. */
  readonly deliveryMode?: number;
  readonly vector: number;
  /** True: level-triggered. Default false, edge. */
  readonly trigMode?: boolean;
  /** Level of a level-triggered message. Default true, asserted. */
  readonly level?: boolean;
  /** 0-3 (SHORTHAND). Default 0, none. */
  readonly shorthand?: number;
  /** An MSI's redirection hint: treated as lowest priority. */
  readonly redirectionHint?: boolean;
}

export interface Match {
  readonly vcpuIndex: number;
  /** Why, in words. */
  readonly why: string;
}

export interface Explanation {
  /** How `route` would go: 'self', by the map, or by scan. */
  readonly path: 'self' | 'map' | 'scan';
  /** The map's answer, or null if the map has none. With lowest priority: the one that it picks. */
  readonly map: readonly number[] | null;
  /** Every APIC that a scan finds, and why. */
  readonly scan: readonly Match[];
  /** Whom the scan would offer the message: all of `scan`, or the one that lowest priority picks. */
  readonly scanTargets: readonly number[];
}

/** What a trace gets for each message that is routed. */
export interface RouteEvent extends Explanation {
  readonly message: Required<ApicMessage>;
  /** What `route` answered: how many took it, or -1. */
  readonly result: number;
}

export const completeMessage = (message: ApicMessage): Required<ApicMessage> => ({
  source: FROM_DEVICE,
  logical: false,
  deliveryMode: DELIVERY.FIXED,
  trigMode: false,
  level: true,
  shorthand: SHORTHAND.NONE,
  redirectionHint: false,
  ...message,
});

export function explain(memory: ApicMemory, router: Router, message: ApicMessage): Explanation {
  const m = completeMessage(message);
  const lowest = m.deliveryMode === DELIVERY.LOWEST || m.redirectionHint;
  const scan: Match[] = [];
  for (let i = 0; i < memory.count; i++) {
    const reason = router.matches(i, m.source, m.destination, m.logical, m.shorthand);
    if (reason !== 0) scan.push({ vcpuIndex: i, why: REASON_TEXT[reason] ?? 'unknown' });
  }
  let map: number[] | null = null;
  if (m.shorthand === SHORTHAND.NONE) {
    const found = router.lookUp(m.source, m.destination, m.logical, lowest, m.vector);
    if (found >= 0) map = Array.from({ length: found }, (_, i) => router.target(i));
  }
  const path = m.shorthand === SHORTHAND.SELF ? 'self' : map === null ? 'scan' : 'map';
  return { path, map, scan, scanTargets: pick(memory, router, m, scan) };
}

function pick(memory: ApicMemory, router: Router, m: Required<ApicMessage>, scan: readonly Match[]): number[] {
  const everyone = scan.map((match) => match.vcpuIndex);
  const broadcast = !m.logical && m.destination === BROADCAST.XAPIC && memory.rules.broadcastLowestToFixed;
  if (!m.redirectionHint && (m.deliveryMode !== DELIVERY.LOWEST || broadcast)) return everyone;
  const enabled = everyone.filter((i) => isSoftwareEnabled(memory.words, memory.identity(i)));
  if (enabled.length === 0) return [];
  if (!memory.options.vectorHashing) return [enabled.reduce((best, i) => (router.arbitratesBelow(i, best) ? i : best))];
  return [enabled[m.vector % enabled.length] ?? enabled[0]];
}
