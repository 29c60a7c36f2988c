/** APIC pages as the harness makes and compares them: 1,024 bytes, register r at byte r, little-endian. */
import { REG, REGISTERS, STATE_BYTES } from '../apic/index.ts';
import { type ApicSpec, hex, type RegisterValue } from './spec.ts';

const EXTD = 0x400;

/** Writes registers over a page. */
export function applyRegisters(page: Uint8Array, registers: readonly RegisterValue[]): void {
  const view = new DataView(page.buffer, page.byteOffset, STATE_BYTES);
  for (const [offset, value] of registers) view.setUint32(offset, value, true);
}

/** The page that an APIC starts with: KVM refuses one with another ID in x2APIC mode when the gate is on. */
export function fillPage(page: Uint8Array, apic: ApicSpec, x2apicFormat: boolean): void {
  page.fill(0);
  applyRegisters(page, apic.registers);
  if (x2apicFormat && (apic.baseLow & EXTD) !== 0) applyRegisters(page, [[REG.ID, apic.apicId]]);
}

/**
 * Is anything in service in its state? KVM then has a PPR that is older than the ISR (rule `isrCache`) until the vCPU runs,
 * or the state is set once more: where it runs, set it twice.
 */
export const hasInService = ({ registers }: ApicSpec): boolean =>
  registers.some(([offset]) => offset >= REG.ISR && offset < REG.TMR);

const NAMES = new Map(REGISTERS.map(({ offset, name }) => [offset, name]));

export const registerName = (offset: number): string => NAMES.get(offset) ?? `+${hex(offset, 3)}`;

export interface RegisterDifference {
  readonly register: string;
  readonly expected: number;
  readonly actual: number;
}

/** Every 32-bit word in which two pages differ. */
export function comparePages(expected: Uint8Array, actual: Uint8Array): RegisterDifference[] {
  const left = new DataView(expected.buffer, expected.byteOffset, STATE_BYTES);
  const right = new DataView(actual.buffer, actual.byteOffset, STATE_BYTES);
  const differences: RegisterDifference[] = [];
  for (let offset = 0; offset < STATE_BYTES; offset += 4) {
    const [a, b] = [left.getUint32(offset, true), right.getUint32(offset, true)];
    if (a !== b) differences.push({ register: registerName(offset), expected: a, actual: b });
  }
  return differences;
}
