/**
 * Paravirtual EOI (Documentation/virt/kvm/x86/msr.rst, MSR_KVM_PV_EOI_EN; pv_eoi_* and apic_sync_pv_eoi_* in
 * arch/x86/kvm/lapic.c): a guest that offers a byte of its memory may end an interrupt by clearing bit 0 of it, which costs
 * no exit. The bit is set before an entry at which nothing waits for that EOI, and taken back at each return.
 *
 * Only the vCPU's own thread touches the byte here, while the vCPU is outside of the guest. Another vCPU may write it: the
 * guest then loses an EOI of its own or has one too many, as with KVM.
 */
import type { LocalApic } from '../../apic/index.ts';

export const MSR_KVM_PV_EOI_EN = 0x4b56_4d04;

const ENABLED = 1;
const ALIGNMENT = 3;
const NOWHERE = -1;

export class PvEoi {
  readonly #apic: LocalApic;
  readonly #ram: Uint8Array;
  #low = 0;
  #high = 0;
  /** The byte's guest-physical address while the guest has enabled this. */
  #at = NOWHERE;
  /** The bit is set: the guest may have ended the interrupt by clearing it. */
  #offered = false;

  /** @param ram guest memory from guest-physical address 0 */
  constructor(apic: LocalApic, ram: Uint8Array) {
    this.#apic = apic;
    this.#ram = ram;
  }

  /** RDMSR: what was written. */
  readMsr(_msr: number): true {
    return true;
  }

  get msrLow(): number {
    return this.#low;
  }

  get msrHigh(): number {
    return this.#high;
  }

  /** WRMSR. @returns false for #GP: an address not aligned to 4 bytes, or not RAM (kvm_lapic_set_pv_eoi) */
  writeMsr(_msr: number, low: number, high: number): boolean {
    const address = high * 2 ** 32 + ((low & ~ENABLED) >>> 0);
    if ((address & ALIGNMENT) !== 0) return false;
    const enabled = (low & ENABLED) !== 0;
    if (enabled && address >= this.#ram.length) return false;
    this.#low = low >>> 0;
    this.#high = high >>> 0;
    this.#at = enabled ? address : NOWHERE;
    return true;
  }

  /** INIT and power-up: the guest has to enable it anew. */
  reset(): void {
    this.#low = 0;
    this.#high = 0;
    this.#at = NOWHERE;
    this.#offered = false;
  }

  /** Before KVM_RUN, after what was to be injected is; again when something came in between, and then it may take it back. */
  beforeEntry(): void {
    if (this.#at === NOWHERE) return;
    const offer = this.#apic.mayEndInSilence();
    if (offer) this.#ram[this.#at] = ENABLED;
    else if (this.#offered) this.#ram[this.#at] = 0;
    this.#offered = offer;
  }

  /** After each KVM_RUN. @returns whether the guest ended its interrupt meanwhile; the APIC has been told */
  afterRun(): boolean {
    if (!this.#offered) return false;
    this.#offered = false;
    if (this.#at === NOWHERE) return false;
    if ((this.#ram[this.#at] & ENABLED) !== 0) {
      this.#ram[this.#at] = 0; // set again at the next entry, if it is still safe
      return false;
    }
    this.#apic.eoi();
    return true;
  }
}
