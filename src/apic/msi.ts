/**
 * An MSI as a message (kvm_set_msi, kvm_set_msi_irq in arch/x86/kvm/irq.c; SDM vol. 3A, 12.11): which are its destination
 * and its command, by the gate. The base address bits (0xfee) are not looked at, as in KVM: whoever has the address has
 * decided already.
 */
import { COMMAND, msiCommand, msiDestination, msiWideDestination, msiWideReserved } from './fields.ts';
import type { ApicMemory } from './layout.ts';

export class MsiFormat {
  readonly #checksReserved: boolean;
  readonly #wide: boolean;
  /** Command bits that an MSI may have. */
  readonly #allowed: number;

  constructor(memory: ApicMemory) {
    const { rules } = memory;
    const { x2apicFormat } = memory.options;
    this.#checksReserved = x2apicFormat && rules.msiReservedHigh;
    this.#wide = x2apicFormat && rules.msiWideDestination;
    this.#allowed = rules.redirectionHint ? -1 : ~COMMAND.HINT;
  }

  /** Is this upper half of an address an error (-EINVAL)? */
  refuses(addressHigh: number): boolean {
    return this.#checksReserved && msiWideReserved(addressHigh);
  }

  destination(addressLow: number, addressHigh: number): number {
    return (this.#wide ? msiWideDestination(addressHigh) : 0) + msiDestination(addressLow);
  }

  command(addressLow: number, data: number): number {
    return msiCommand(addressLow, data) & this.#allowed;
  }
}
