/**
 * Seeds that once failed, whatever the reason: `path` is the machine in the batch, as a failure prints it. They are as
 * they were found only while the generators (src/conform/arbitraries.ts, rigs.ts) are; what each found has a unit test of
 * its own in test/unit/apic.
 */
export interface FailedSeed {
  readonly layer: 1 | 2;
  readonly seed: number;
  readonly path: string;
  /** What was wrong, and where. */
  readonly was: string;
}

export const FAILED_SEEDS: readonly FailedSeed[] = [];
