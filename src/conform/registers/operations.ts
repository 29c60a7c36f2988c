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
  /** A SIPI that nobody looks after before the next operation: it is still pending then. */
  readonly unattended?: boolean;
  /** Operations of one number make sense together only: shrinking keeps or drops them all. */
  readonly unit?: number;
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
/** The vector of an NMI. */
export const NMI = 2;

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
const NMI_DELIVERY = 4;
const INIT = 5;
const STARTUP = 6;

/** The delivery mode of an operation that may write ICR, or -1. */
export function deliveryMode({ kind, address, low }: RegisterOperation): number {
  const toIcr =
    (kind === 'mmio-write' && ((address % PAGE_BYTES) & ~0xf) === REG.ICR) || (kind === 'wrmsr' && address === ICR_MSR);
  return toIcr ? (low >>> 8) & 7 : -1;
}

/** May this make a CPU take INIT or SIPI? Whoever carries it out then looks after every CPU before going on. */
export function mayStartCpus(operation: RegisterOperation): boolean {
  const mode = deliveryMode(operation);
  return (mode === INIT || mode === STARTUP) && !operation.unattended;
}

/** May this send an NMI? Whoever carries it out then lets the sender take its own before it goes on. */
export const maySendNmi = (operation: RegisterOperation): boolean => deliveryMode(operation) === NMI_DELIVERY;

/** Events in an order that does not depend on who looked after which CPU first. */
export const byName = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
