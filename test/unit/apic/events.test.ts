/** kvm_apic_accept_events: what a pending INIT and SIPI make of a vCPU. */
import { expect, it } from 'vitest';
import { APIC_EVENT, ApicSystem, BASE, type LocalApic, REG } from '../../../src/apic/index.ts';

const make = (apicId: number): LocalApic => {
  const apic = new ApicSystem().addApic(apicId);
  apic.writeMmio(REG.SPIV, 4, 0x1ff);
  return apic;
};
const isReset = (apic: LocalApic): boolean => apic.snapshot().registers.SPIV === 0xff;

it('INIT resets, and one that is no boot processor takes the SIPI that came after it', () => {
  const apic = make(1);
  apic.postEvents(APIC_EVENT.INIT | APIC_EVENT.SIPI, 8);
  expect(apic.acceptEvents(false)).toBe(APIC_EVENT.INIT | APIC_EVENT.SIPI);
  expect([isReset(apic), apic.sipiVector]).toEqual([true, 8]);
  expect(apic.acceptEvents(false)).toBe(0);
});

it('a boot processor starts at its reset vector: the SIPI is lost', () => {
  const apic = make(0);
  apic.postEvents(APIC_EVENT.INIT | APIC_EVENT.SIPI, 8);
  expect(apic.acceptEvents(false)).toBe(APIC_EVENT.INIT);
  expect(apic.apicBaseLow & BASE.BSP).toBe(BASE.BSP);
});

it('without an INIT a SIPI reaches only who waits for it', () => {
  const apic = make(1);
  apic.postEvents(APIC_EVENT.SIPI, 8);
  expect(apic.acceptEvents(false)).toBe(0);
  apic.postEvents(APIC_EVENT.SIPI, 9);
  expect(apic.acceptEvents(true)).toBe(APIC_EVENT.SIPI);
  expect([isReset(apic), apic.sipiVector]).toEqual([false, 9]);
});
