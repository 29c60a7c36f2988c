/**
 * A round of layer 3, as its threads share it: who owns which APIC, and the words through which they count.
 *
 *   control words      written by                            read by
 *   -----------------  ------------------------------------  --------------------------------
 *   PHASE              main thread (store)                   threads
 *   SENT, DRAINED      threads (add)                         threads: two barriers at the end
 *   NMIS_SENT, _TAKEN  threads (add)                         main thread, at the end
 *   TAKEN + vector     owners (add), when acknowledged       the one sender that uses the vector
 *   STARTED + vcpu     owners (add), when SIPI was taken     the one sender that starts this vCPU
 */
import type { Coverage } from './coverage.ts';

export const CONTROL = { PHASE: 0, SENT: 1, DRAINED: 2, NMIS_SENT: 3, NMIS_TAKEN: 4, TAKEN: 16, STARTED: 272 } as const;
export const PHASE = { RACE: 1, SETTLE: 2 } as const;
export const CONTROL_WORDS = 1024;

/** What the restless APICs do, and with it what must hold for the steady ones. */
export const ROUND_KINDS = ['aliases', 'modes', 'ids'] as const;
/**
 * - `ids`: software and hardware enable, xAPIC IDs and LDRs that nobody else has; everyone in xAPIC mode, flat
 * - `modes`: x2APIC, xAPIC, disabled as well: the logical map comes and goes
 * - `aliases`: restless APICs take each other's IDs and logical bits: with the gate off the whole map comes and goes
 */
export type RoundKind = (typeof ROUND_KINDS)[number];

export interface RacingApic {
  readonly apicId: number;
  /** Index of the thread that owns it. */
  readonly owner: number;
  readonly steady: boolean;
  /** xAPIC IDs that it may have; the first is its own. */
  readonly ids: readonly number[];
  /** Bits of LDR 31:24 that it may have; the first is its own. 0: none. */
  readonly logicalIds: readonly number[];
}

/** What a round is: half a second of racing. */
export interface Round {
  readonly kind: RoundKind;
  readonly seed: number;
  readonly workers: number;
  readonly x2apicFormat: boolean;
}

export interface RoundPlan extends Round {
  readonly worker: number;
  readonly memory: SharedArrayBuffer;
  readonly control: SharedArrayBuffer;
  readonly apics: readonly RacingApic[];
}

export interface RoundReport {
  readonly sends: number;
  readonly failures: readonly string[];
  readonly coverage: Coverage['entries'];
}

/** Vectors that are shared out among the senders: no two share one, so that no request merges with another's. */
export const VECTORS = 208;
export const FIRST_VECTOR = 0x20;
export const MAX_WORKERS = 16;
