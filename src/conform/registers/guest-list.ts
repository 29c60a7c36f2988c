/**
 * A list of a guest's operations while it is made. It follows each CPU's mode roughly, so that most accesses go through the
 * door that is open.
 */
import { MODE, PAGE_BYTES, REG } from '../../apic/index.ts';
import { pick } from '../choices.ts';
import { msrOf } from '../operations.ts';
import type { ApicSpec, GuestKind, GuestOperation } from '../spec.ts';

/** What lists must know of the host. */
export interface ListHost {
  /** The machines' time stamp counter: how many ticks make a wait, and the upper half of what it was when they were made. */
  readonly tsc: { readonly khz: number; readonly high: number };
  /** Does KVM keep TPR's low bits while a guest runs? SVM without AVIC takes TPR from CR8 at every exit. */
  readonly lowTpr: boolean;
  /** Does it survive a guest's writes of CR8? QEMU's emulation of SVM does not. */
  readonly cr8Writes: boolean;
}

/** What a list may have: one with writes to CR8 has no low bits of TPR (see README.md). */
export interface ListLimits {
  readonly cr8: boolean;
  readonly wholeTpr: boolean;
}

export interface TrackedCpu {
  readonly index: number;
  readonly apicId: number;
  /** IA32_APIC_BASE[31:0], as the list has left it. */
  base: number;
}

/** Adds operations of one CPU to a list. */
export type Step = (list: GuestList, cpu: TrackedCpu) => void;

export class GuestList {
  readonly operations: GuestOperation[] = [];
  readonly tsc: ListHost['tsc'];
  readonly limits: ListLimits;
  readonly #cpus: readonly TrackedCpu[];
  #units = 0;

  constructor(apics: readonly ApicSpec[], tsc: ListHost['tsc'], limits: ListLimits) {
    this.#cpus = apics.map(({ apicId, baseLow }, index) => ({ index, apicId, base: baseLow }));
    this.tsc = tsc;
    this.limits = limits;
  }

  /** A step's operations are one unit to shrinking. */
  add(step: Step, cpu: number): void {
    this.#units++;
    step(this, this.cpu(cpu));
  }

  /** The CPU that a random number means. */
  cpu(n: number): TrackedCpu {
    return pick(this.#cpus, n);
  }

  put(kind: GuestKind, { index }: TrackedCpu, rest: Partial<GuestOperation> = {}): void {
    const { size = 4, address = 0, low = 0, high = 0, unattended } = rest;
    const kept = !this.limits.wholeTpr && isTprWrite(kind, address) ? low & ~0xf : low;
    const operation = { kind, cpu: index, size, address: address >>> 0, low: kept >>> 0, high: high >>> 0 };
    this.operations.push({ ...operation, ...(unattended && { unattended }), unit: this.#units });
  }

  read(cpu: TrackedCpu, register: number): void {
    if (isX2apic(cpu)) this.put('rdmsr', cpu, { address: msrOf(register) });
    else this.put('mmio-read', cpu, { address: pageOf(cpu) + register });
  }

  write(cpu: TrackedCpu, register: number, low: number, high = 0, rest: Partial<GuestOperation> = {}): void {
    if (isX2apic(cpu)) this.put('wrmsr', cpu, { ...rest, address: msrOf(register), low, high });
    else this.put('mmio-write', cpu, { ...rest, address: pageOf(cpu) + register, low });
  }

  /** An expiry that waits becomes an interrupt when KVM next looks, which is soon but not at once. */
  breathe(cpu: TrackedCpu): void {
    this.put('wait', cpu, { low: 1 });
  }
}

export const isX2apic = ({ base }: TrackedCpu): boolean => (base & MODE.X2APIC) === MODE.X2APIC;
export const pageOf = ({ base }: TrackedCpu): number => (base & ~(PAGE_BYTES - 1)) >>> 0;
const isTprWrite = (kind: GuestKind, address: number): boolean =>
  (kind === 'mmio-write' && (address & 0xff0) === REG.TPR) || (kind === 'wrmsr' && address === msrOf(REG.TPR));
