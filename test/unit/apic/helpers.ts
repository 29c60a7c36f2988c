/**
 * The register door, restated from the manual (SDM vol. 3A, chapter 12) on purpose: the tests must not take offsets or bits
 * from the code under test.
 */
import { ApicSystem, type ApicSystemOptions, type LocalApic } from '../../../src/apic/index.ts';

// Offsets in the APIC page.
export const ID = 0x20;
export const VERSION = 0x30;
export const TPR = 0x80;
export const APR = 0x90;
export const PPR = 0xa0;
export const EOI = 0xb0;
export const LDR = 0xd0;
export const DFR = 0xe0;
export const SPIV = 0xf0;
export const ISR = 0x100;
export const TMR = 0x180;
export const IRR = 0x200;
export const ESR = 0x280;
export const LVT_CMCI = 0x2f0;
export const ICR = 0x300;
export const ICR2 = 0x310;
export const LVT_TIMER = 0x320;
export const LVT_THERMAL = 0x330;
export const LVT_PERFORMANCE = 0x340;
export const LINT0 = 0x350;
export const LINT1 = 0x360;
export const LVT_ERROR = 0x370;
export const TMICT = 0x380;
export const TMCCT = 0x390;
export const TDCR = 0x3e0;

// x2APIC MSRs.
export const X2_ID = 0x802;
export const X2_TPR = 0x808;
export const X2_EOI = 0x80b;
export const X2_LDR = 0x80d;
export const X2_SPIV = 0x80f;
export const X2_ESR = 0x828;
export const X2_ICR = 0x830;
export const X2_LVT_TIMER = 0x832;
export const X2_SELF_IPI = 0x83f;
export const APIC_BASE = 0x1b;
export const TSC_DEADLINE = 0x6e0;

// IA32_APIC_BASE: 8 BSP, 10 EXTD, 11 EN.
export const BASE_XAPIC = 0xfee00800;
export const BASE_X2APIC = 0xfee00c00;
export const BASE_DISABLED = 0xfee00000;

export const ENABLE = 0x1ff; // SPIV: software enable, spurious vector 0xff
export const MASKED = 0x10000;

export type Start = 'off' | 'disabled' | 'xapic' | 'x2apic';
export type CpuSpec = readonly [apicId: number, mode?: Start];

/** A system of software-enabled APICs; `disabled` is software-disabled xAPIC, `off` is off in IA32_APIC_BASE. */
export function make(options: ApicSystemOptions, cpus: readonly CpuSpec[]): { system: ApicSystem; apics: LocalApic[] } {
  const system = new ApicSystem(options);
  const apics = cpus.map(([apicId]) => system.addApic(apicId));
  cpus.forEach(([, mode = 'xapic'], i) => {
    enter(apics[i], mode);
  });
  return { system, apics };
}

export function enter(apic: LocalApic, mode: Start): void {
  if (mode === 'off') {
    apic.setApicBase(BASE_DISABLED, 0);
    return;
  }
  if (mode !== 'disabled') apic.writeMmio(SPIV, 4, ENABLE);
  if (mode === 'x2apic') apic.setApicBase(BASE_X2APIC, 0);
}

export const one = (
  options: ApicSystemOptions = {},
  mode: Start = 'xapic',
): { system: ApicSystem; apic: LocalApic } => {
  const { system, apics } = make(options, [[0, mode]]);
  return { system, apic: apics[0] };
};

export const read = (apic: LocalApic, offset: number): number => apic.readMmio(offset, 4);
export const write = (apic: LocalApic, offset: number, value: number): void => apic.writeMmio(offset, 4, value);

/** RDMSR as one number, or '#GP'. Exact up to 2^53. */
export function rdmsr(apic: LocalApic, msr: number): number | '#GP' {
  return apic.readMsr(msr) ? apic.msrHigh * 2 ** 32 + apic.msrLow : '#GP';
}

export const wrmsr = (apic: LocalApic, msr: number, low: number, high = 0): 'ok' | '#GP' =>
  apic.writeMsr(msr, low >>> 0, high >>> 0) ? 'ok' : '#GP';

/** Vectors set in ISR, TMR or IRR, read through the state page as KVM_GET_LAPIC gives it. */
export function vectors(apic: LocalApic, bank: number): number[] {
  const view = new DataView(apic.getState().buffer);
  const list: number[] = [];
  for (let v = 0; v < 256; v++) {
    if (view.getUint32(bank + (v >> 5) * 16, true) & (1 << (v & 31))) list.push(v);
  }
  return list;
}

/** Indexes of the APICs whose IRR has the vector. */
export const takers = (apics: readonly LocalApic[], vector: number): number[] =>
  apics.flatMap((apic, i) => (vectors(apic, IRR).includes(vector) ? [i] : []));

/** Sends an IPI through the door that the APIC's mode opens; `low` is the ICR's low word. */
export function sendIpi(apic: LocalApic, destination: number, low: number): void {
  if (apic.mode === 'x2apic') {
    apic.writeMsr(X2_ICR, low >>> 0, destination >>> 0);
  } else {
    apic.writeMmio(ICR2, 4, (destination << 24) >>> 0);
    apic.writeMmio(ICR, 4, low >>> 0);
  }
}

/** An MSI to a destination, in the format of the system's gate. */
export function sendMsi(system: ApicSystem, destination: number, data: number, addressBits = 0): number {
  const low = (0xfee00000 | ((destination & 0xff) << 12) | addressBits) >>> 0;
  return system.signalMsi(low, (destination & 0xffffff00) >>> 0, data);
}

export const setRegister = (apic: LocalApic, changes: Readonly<Record<number, number>>): boolean => {
  const state = apic.getState();
  const view = new DataView(state.buffer);
  for (const [offset, value] of Object.entries(changes)) view.setUint32(Number(offset), value >>> 0, true);
  return apic.setState(state);
};

export const stateWord = (apic: LocalApic, offset: number): number =>
  new DataView(apic.getState().buffer).getUint32(offset, true);
