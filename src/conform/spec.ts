/**
 * What the harness talks about: a machine, the operations on it, and what comes of them. Plain data, without references to
 * a judge, so that a case can be printed, kept in a file and given to any judge. 64-bit values are two halves.
 */
import { MpState } from '../kvm/constants.ts';

/** The VM-wide switches of KVM_CAP_X2APIC_API. */
export interface Gates {
  /** KVM_X2APIC_API_USE_32BIT_IDS. */
  readonly x2apicFormat: boolean;
  /** KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK. */
  readonly broadcastQuirkDisabled: boolean;
}

/** A register of the APIC page: byte offset, 32-bit value (unsigned). */
export type RegisterValue = readonly [offset: number, value: number];

/** One APIC: who it is and the state that it starts with. */
export interface ApicSpec {
  /** KVM's vcpu_id, the x2APIC ID. */
  readonly apicId: number;
  /** IA32_APIC_BASE, written by the host. */
  readonly baseLow: number;
  readonly baseHigh: number;
  /** What the state page holds besides zeros. In x2APIC mode the ID is put in by whoever builds the page. */
  readonly registers: readonly RegisterValue[];
}

/** A VM: the APIC IDs of all its vCPUs, in order of creation. */
export interface RigSpec extends Gates {
  readonly rig: readonly number[];
}

/** The VM that a machine lives in, and the vCPUs of it that it uses; the others are disabled. */
export interface MachineSpec extends RigSpec {
  /** In order of creation. */
  readonly apics: readonly ApicSpec[];
  /** APIC ID of the boot processor (KVM_SET_BOOT_CPU_ID), whether or not it is one of `apics`. */
  readonly bootstrap: number;
}

/** KVM_SIGNAL_MSI. */
export interface MsiOperation {
  readonly kind: 'msi';
  readonly addressLow: number;
  readonly addressHigh: number;
  readonly data: number;
}

/** What the host does to a machine on which nothing runs. `cpu` is an index into MachineSpec.apics. */
export type HostOperation =
  | MsiOperation
  /** KVM_SET_MSRS of IA32_APIC_BASE. */
  | { readonly kind: 'base'; readonly cpu: number; readonly low: number; readonly high: number }
  /** KVM_GET_MSRS of IA32_APIC_BASE: answers all of it. */
  | { readonly kind: 'read-base'; readonly cpu: number }
  /** KVM_GET_LAPIC, these changes, KVM_SET_LAPIC. */
  | { readonly kind: 'state'; readonly cpu: number; readonly registers: readonly RegisterValue[] }
  /** KVM_GET_MP_STATE, by which the vCPU takes a pending INIT and SIPI. Answers KVM_MP_STATE_* | start page << 8. */
  | { readonly kind: 'settle'; readonly cpu: number }
  /** KVM_GET_VCPU_EVENTS: answers pending NMIs | pending SMI << 8. */
  | { readonly kind: 'events'; readonly cpu: number };

/** In the order of the numbers in guest/oplist.S. */
export const GUEST_KINDS = [
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
export type GuestKind = (typeof GUEST_KINDS)[number];

/** What a guest does, one CPU at a time. */
export interface GuestOperation {
  readonly kind: GuestKind;
  /** Index into MachineSpec.apics. */
  readonly cpu: number;
  /** MMIO: 1, 2, 4 or 8 bytes. A window (interrupts on and off): 1 if its handlers do not EOI. */
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

export type Operation = HostOperation | GuestOperation;

/** All operations of a case are the host's, or all are a guest's. */
export interface Case<Kind extends Operation = Operation> {
  readonly machine: MachineSpec;
  readonly operations: readonly Kind[];
}

const HOST_KINDS = ['msi', 'base', 'read-base', 'state', 'settle', 'events'] as const satisfies HostOperation['kind'][];

const isGuests = new Set<string>(GUEST_KINDS);
const isAny = new Set<string>([...GUEST_KINDS, ...HOST_KINDS]);

/** Is it an operation at all, as read from a file? */
export const isOperation = (value: unknown): value is Operation =>
  typeof value === 'object' &&
  value !== null &&
  'kind' in value &&
  isAny.has(String(value.kind)) &&
  Object.entries(value).every(
    ([name, each]) => name === 'kind' || name === 'unattended' || name === 'registers' || Number.isInteger(each),
  );

export const isGuestOperation = (operation: Operation): operation is GuestOperation => isGuests.has(operation.kind);

/** Does a guest run on the machine? */
export const runsGuest = ({ operations }: Case): boolean => operations.length > 0 && operations.every(isGuestOperation);

/** What a count that falls by itself may be, or 'any' where there is nothing to compare with. */
export interface Range {
  readonly least: number;
  readonly most: number;
}
export type Tolerance = Range | 'any';

/** A word of a register page that has changed: index into MachineSpec.apics, byte offset, the new value. */
export type PageChange = readonly [cpu: number, offset: number, value: number];

export interface Result {
  /** A host operation's answer, -errno when the ioctl failed; what a guest's read gave. */
  readonly low: number;
  readonly high: number;
  /** Vector of a guest's exception, 0 for none, SKIPPED when its CPU waits for a SIPI. */
  readonly fault: number;
  /** Set by those who know what only time decides. */
  readonly tolerance?: Tolerance;
  /** After a host operation: all changes of all register pages since the operation before. */
  readonly changes?: readonly PageChange[];
}

export const SKIPPED = 0xff;
export const GP = 13;
/** The vector of an NMI. */
export const NMI = 2;
/** Why an answer is no number: the ioctl failed with this errno. */
export const EINVAL_OUTCOME = -22;
/** What 'settle' answers of a vCPU after power-up and after INIT: the upper byte of CS. */
export const RESET_PAGE = 0xf0;
/** KVM_MP_STATE_* of a new vCPU whose host did not choose a boot processor: that is the one with ID 0. */
export const startState = (apicId: number): number => (apicId === 0 ? MpState.RUNNABLE : MpState.UNINITIALIZED);

/** An interrupt or NMI (vector 2) that a guest's CPU took during operation `position`. */
export interface Taken {
  readonly vector: number;
  readonly position: number;
}

/** What there is at the end. */
export interface CpuOutcome {
  readonly taken: readonly Taken[];
  /** KVM_GET_LAPIC. */
  readonly page: Uint8Array;
  readonly baseLow: number;
  readonly baseHigh: number;
  /** The same for the current count in `page`. */
  readonly count?: Range;
}

export interface Outcome {
  /** Where a machine's first state differs from what was put; with host operations only. */
  readonly start: readonly PageChange[];
  readonly results: readonly Result[];
  readonly cpus: readonly CpuOutcome[];
  /** INITs and SIPIs that a guest's CPUs took, in words, in order. */
  readonly events: readonly string[];
  /** How long it took: a timer may have counted down so far (1 GHz, divisor 1). 0: no time went by at all. */
  readonly nanos: number;
}

/** Carries out a whole case, on a machine that it makes afresh. */
export interface Judge {
  readonly name: string;
  carryOut(candidate: Case): Outcome;
  close(): void;
}
