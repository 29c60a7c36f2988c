/**
 * What the harness talks about: a machine, the operations on it, and what comes of them. Plain data, without references to
 * a judge, so that a case can be printed, kept in a file and given to any judge.
 */

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

export interface MachineSpec extends Gates {
  /** In order of creation. */
  readonly apics: readonly ApicSpec[];
  /** All vCPUs of the VM that it lives in, in order of creation; those not in `apics` are disabled. */
  readonly rig: readonly number[];
}

/** `cpu` is an index into MachineSpec.apics. */
export type Operation =
  /** KVM_SIGNAL_MSI. */
  | { readonly kind: 'msi'; readonly addressLow: number; readonly addressHigh: number; readonly data: number }
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

export interface Case {
  readonly machine: MachineSpec;
  readonly operations: readonly Operation[];
}

/** Why a judge's answer is no number: the ioctl failed with this errno. */
export const EINVAL_OUTCOME = -22;

/** Carries out operations one at a time on machines that it makes. Outcomes are what KVM's ioctl would answer. */
export interface Judge {
  readonly name: string;
  /** Makes the machine, from scratch. */
  build(machine: MachineSpec): void;
  perform(operation: Operation): number;
  /** KVM_GET_LAPIC of an APIC of the machine, into 1,024 bytes. */
  page(cpu: number, into: Uint8Array): void;
  close(): void;
}

export const hex = (value: number, digits = 0): string => `0x${(value >>> 0).toString(16).padStart(digits, '0')}`;
