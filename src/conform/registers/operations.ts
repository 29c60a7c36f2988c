/**
 * What layer 2 talks about: the operations that the guest of guest/oplist.S carries out, and what came of a list of them.
 * Plain data, so that a case can be printed, kept in a file and given to any judge. 64-bit values are two halves.
 */
import { MSR, PAGE_BYTES, REG } from '../../apic/index.ts';
import type { MachineSpec } from '../spec.ts';

/** In the order of the guest's numbers. */
export const KINDS = [
  'nothing',
  'mmio-read',
  'mmio-write',
  'rdmsr',
  'wrmsr',
  'read-cr8',
  'write-cr8',
  'window',
  'halt',
  'read-tsc',
  'wait',
] as const;
export type Kind = (typeof KINDS)[number];

export interface RegisterOperation {
  readonly kind: Kind;
  /** Index into MachineSpec.apics. */
  readonly cpu: number;
  /** MMIO: 1, 2, 4 or 8 bytes. A window: 1 if its handlers do not EOI. */
  readonly size: number;
  /** MMIO: guest-physical address. MSR number. */
  readonly address: number;
  readonly low: number;
  readonly high: number;
}

export interface RegisterCase {
  readonly machine: MachineSpec;
  readonly operations: readonly RegisterOperation[];
}

export interface OperationResult {
  readonly low: number;
  readonly high: number;
  /** Vector of the exception, 0 for none, SKIPPED when its CPU waits for a SIPI. */
  readonly fault: number;
}

export const SKIPPED = 0xff;
export const GP = 13;

/** An interrupt or NMI (vector 2) that a CPU took during operation `position`. */
export interface Taken {
  readonly vector: number;
  readonly position: number;
}

export interface CpuOutcome {
  readonly taken: readonly Taken[];
  /** KVM_GET_LAPIC. */
  readonly page: Uint8Array;
  readonly baseLow: number;
  readonly baseHigh: number;
}

export interface Outcome {
  readonly results: readonly OperationResult[];
  readonly cpus: readonly CpuOutcome[];
  /** INITs and SIPIs that CPUs took, in words, in order. */
  readonly events: readonly string[];
}

/** Carries out a whole case, from a machine that it makes afresh. */
export interface RegisterJudge {
  readonly name: string;
  carryOut(candidate: RegisterCase): Outcome;
  close(): void;
}

const ICR_MSR = MSR.X2APIC_FIRST + (REG.ICR >> 4);
const INIT_OR_STARTUP = [5, 6];

/** May this make a CPU take INIT or SIPI? Whoever carries it out then looks after every CPU before going on. */
export function mayStartCpus({ kind, address, low }: RegisterOperation): boolean {
  const toIcr =
    (kind === 'mmio-write' && (address % PAGE_BYTES & ~0xf) === REG.ICR) || (kind === 'wrmsr' && address === ICR_MSR);
  return toIcr && INIT_OR_STARTUP.includes((low >>> 8) & 7);
}
