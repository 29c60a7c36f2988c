/**
 * The doors of our local APIC: the MSRs and the register page that a guest's accesses come through, and the clock its timer
 * is told. Whatever may change which interrupt is next, or the timer, unsettles the vCPU.
 */
import type { LocalApic } from '../../apic/index.ts';
import { MSR_KVM_PV_EOI_EN, type PvEoi } from './pv-eoi.ts';

const APIC_PAGE = 0x1000;
const NOT_OURS = -1;
const IA32_APIC_BASE = 0x1b;

/** Who must hear of it. */
export interface ApicWatcher {
  /** The APIC's registers changed. */
  unsettle(): void;
  /** IA32_APIC_BASE changed. */
  apicBaseWritten(): void;
  /** #GP comes with the next entry. */
  eventQueued(): void;
}

export class ApicDoors {
  readonly #apic: LocalApic;
  readonly #watcher: ApicWatcher;
  readonly #pvEoi: PvEoi | null;
  /** Of the last `readMsr`. */
  msrLow = 0;
  msrHigh = 0;

  constructor(apic: LocalApic, watcher: ApicWatcher, pvEoi: PvEoi | null) {
    this.#apic = apic;
    this.#watcher = watcher;
    this.#pvEoi = pvEoi;
  }

  /** TPR bits 7:4, as KVM_RUN takes them from kvm_run and leaves them there. */
  get cr8(): number {
    return this.#apic.cr8;
  }

  /** @returns false for #GP; a value read is in `msrLow` and `msrHigh`. */
  readMsr(msr: number): boolean {
    const door = msr === MSR_KVM_PV_EOI_EN ? this.#pvEoi : this.#apic;
    if (!door?.readMsr(msr)) {
      this.#watcher.eventQueued();
      return false;
    }
    this.msrLow = door.msrLow;
    this.msrHigh = door.msrHigh;
    return true;
  }

  /** @returns false for #GP. */
  writeMsr(msr: number, low: number, high: number): boolean {
    this.#watcher.unsettle();
    const door = msr === MSR_KVM_PV_EOI_EN ? this.#pvEoi : this.#apic;
    if (!door?.writeMsr(msr, low, high)) {
      this.#watcher.eventQueued();
      return false;
    }
    if (msr === IA32_APIC_BASE) this.#watcher.apicBaseWritten();
    return true;
  }

  /** @returns the offset of the guest-physical `address` in this vCPU's APIC page, below 0 if it is not in it. */
  mmioOffset(address: number): number {
    const offset = address - this.#apic.pageAddress;
    return offset < APIC_PAGE ? offset : NOT_OURS;
  }

  /** @param offset bytes into the APIC page; `size` 1 to 8 bytes: any access a guest can make. */
  readMmio(offset: number, size: number): number {
    return this.#apic.readMmio(offset, size);
  }

  /** Bytes 4-7 of the last `readMmio` of more than 4 bytes. */
  get mmioHigh(): number {
    return this.#apic.mmioHigh;
  }

  writeMmio(offset: number, size: number, value: number): void {
    this.#watcher.unsettle();
    this.#apic.writeMmio(offset, size, value);
  }

  /** When `expireTimer` wants to be called, in nanoseconds; Infinity for never. */
  timerDeadlineNanos(): number {
    return this.#apic.timerDeadlineNanos();
  }

  expireTimer(nowNanos: number): void {
    this.#watcher.unsettle();
    this.#apic.expireTimer(nowNanos);
  }
}
