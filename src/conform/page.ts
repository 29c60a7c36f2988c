/**
 * APIC pages as the harness makes and compares them: 1,024 bytes, register r at byte r, little-endian; and the state of an APIC
 * from what there is to say of it.
 */
import { priorityClass } from '../apic/fields.ts';
import { BASE, DFR, REG, REGISTERS, STATE_BYTES } from '../apic/index.ts';
import { highestVector } from '../apic/vectors.ts';
import { hex } from '../hex.ts';
import { LOCAL_APIC_BASE } from '../platform.ts';
import type { ApicSpec, RegisterValue } from './spec.ts';

const viewOf = (page: Uint8Array): DataView => new DataView(page.buffer, page.byteOffset, STATE_BYTES);

/** Writes registers over a page. */
export function applyRegisters(page: Uint8Array, registers: readonly RegisterValue[]): void {
  const view = viewOf(page);
  for (const [offset, value] of registers) view.setUint32(offset, value, true);
}

/** The page that an APIC starts with: KVM refuses one with another ID in x2APIC mode when the gate is on. */
export function fillPage(page: Uint8Array, apic: ApicSpec, x2apicFormat: boolean): void {
  page.fill(0);
  applyRegisters(page, apic.registers);
  if (x2apicFormat && (apic.baseLow & BASE.EXTD) !== 0) applyRegisters(page, [[REG.ID, apic.apicId]]);
}

const NAMES = new Map(REGISTERS.map(({ offset, name }) => [offset, name]));

export const registerName = (offset: number): string => NAMES.get(offset) ?? `+${hex(offset, 3)}`;

export const readRegister = (page: Uint8Array, offset: number): number => viewOf(page).getUint32(offset, true);

/** Every 32-bit word in which two pages differ, with what `after` has. */
export function changesOf(before: Uint8Array, after: Uint8Array): RegisterValue[] {
  const [old, now] = [viewOf(before), viewOf(after)];
  const changes: RegisterValue[] = [];
  for (let offset = 0; offset < STATE_BYTES; offset += 4) {
    const value = now.getUint32(offset, true);
    if (old.getUint32(offset, true) !== value) changes.push([offset, value]);
  }
  return changes;
}

/** PPR as TPR and ISR make it, written over the page's (SDM volume 3A, 12.8.3.1). */
export function renewPpr(page: Uint8Array): void {
  const tpr = readRegister(page, REG.TPR) & 0xff;
  const inService = priorityClass(
    Math.max(0, highestVector(new Int32Array(page.buffer, page.byteOffset), REG.ISR >>> 2)),
  );
  applyRegisters(page, [[REG.PPR, priorityClass(tpr) >= inService ? tpr : inService]]);
}

/** A value of a register, signed or not. */
export const reg = (register: number, value: number): RegisterValue => [register, value >>> 0];

/** What there is to say of an APIC's state; software-enabled and flat if nothing else is said. */
interface ApicState {
  readonly apicId: number;
  /** MODE. */
  readonly mode: number;
  /** BASE.BSP, or 0. */
  readonly bsp?: number;
  readonly page?: number;
  readonly spiv?: number;
  /** In the ID register, but in x2APIC mode. Default: the APIC ID's low byte. */
  readonly xapicId?: number;
  readonly logicalId?: number;
  readonly dfr?: number;
  readonly more?: readonly RegisterValue[];
}

export function makeApic(state: ApicState): ApicSpec {
  const { apicId, mode, bsp = 0, page = LOCAL_APIC_BASE, xapicId = apicId, logicalId = 0 } = state;
  const { spiv = 0x1ff, dfr = DFR.FLAT, more = [] } = state;
  const id = (mode & BASE.EXTD) === 0 ? [reg(REG.ID, xapicId << 24)] : [];
  const registers = [reg(REG.SPIV, spiv), ...id, reg(REG.LDR, logicalId << 24), reg(REG.DFR, dfr), ...more];
  return { apicId, baseLow: (page | mode | bsp) >>> 0, baseHigh: 0, registers };
}
