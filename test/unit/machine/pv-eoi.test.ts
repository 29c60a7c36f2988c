/** Paravirtual EOI: the guest ends interrupts by a byte of its memory, when and only when nobody waits for the EOI. */
import { describe, expect, test } from 'vitest';
import { enterGuest } from '../../../src/machine/loop/enter.ts';
import { PvEoi } from '../../../src/machine/loop/pv-eoi.ts';
import type { ScriptedStep } from '../../../src/machine/loop/scripted-vcpu.ts';
import { HLT, LoopRig, NOTHING } from './loop-rig.ts';

const MSR = 0x4b564d04;
const AT = 0x1004;
const ENABLED = 1;
const LEVEL = { trigMode: true };

function makeCpu(...steps: ScriptedStep[]) {
  const ram = new Uint8Array(0x2000);
  const rig = new LoopRig([steps], { ram });
  const [cpu] = rig.cpus;
  const step = (): void => {
    expect(cpu.interrupts.prepare(true)).toBe(true);
    enterGuest(cpu);
  };
  const apic = rig.system.apic(0);
  const inService = (): readonly number[] => apic.snapshot().inService;
  return { rig, cpu, ram, step, apic, doors: cpu.apic, inService };
}

/** The guest ends its interrupt in the way of kvm_guest_apic_eoi_write: test and clear. @returns whether that was enough */
const guestEnds = (ram: Uint8Array): boolean => {
  const offered = (ram[AT] & ENABLED) !== 0;
  ram[AT] &= ~ENABLED;
  return offered;
};

describe('PV EOI', () => {
  test('reads as 0 before it is written and after a reset, and as it was written, disabled with any address', () => {
    const pvEoi = new PvEoi(new LoopRig([[]]).system.apic(0), new Uint8Array(0x1000));
    const value = (): number[] => [pvEoi.msrHigh, pvEoi.msrLow];
    expect(value()).toEqual([0, 0]);
    expect(pvEoi.writeMsr(MSR, 0x8000_0004, 5)).toBe(true);
    expect(value()).toEqual([5, 0x8000_0004]);
    pvEoi.reset();
    expect(value()).toEqual([0, 0]);
  });

  test('is offered with an interrupt that nothing waits behind, and ends it without an exit', () => {
    let ended = false;
    const { rig, ram, step, doors, inService } = makeCpu(NOTHING, () => {
      ended = guestEnds(ram);
      return NOTHING;
    });
    expect(doors?.writeMsr(MSR, AT | ENABLED, 0)).toBe(true);
    step();
    expect(ram[AT]).toBe(0);
    rig.send(0x31);
    step();
    expect(ended).toBe(true);
    expect(inService()).toEqual([]);
  });

  test('is taken back at each return: an interrupt that the guest has not ended stays in service', () => {
    const { rig, cpu, ram, step, doors, inService } = makeCpu(NOTHING, NOTHING, NOTHING, NOTHING);
    doors?.writeMsr(MSR, AT | ENABLED, 0);
    step();
    rig.send(0x31);
    step();
    expect([ram[AT], inService()]).toEqual([0, [0x31]]);
    step();
    expect([ram[AT], inService()]).toEqual([0, [0x31]]);
    enterGuest(cpu); // as who finishes an exit does: it offered nothing
    expect(inService()).toEqual([0x31]);
  });

  test('is not offered while another vector waits, whatever its priority', () => {
    for (const other of [0x22, 0x91]) {
      const seen: number[] = [];
      const { rig, ram, step, doors } = makeCpu(NOTHING, () => {
        seen.push(ram[AT]);
        return NOTHING;
      });
      doors?.writeMsr(MSR, AT | ENABLED, 0);
      step();
      rig.send(0x41);
      rig.send(other);
      step();
      expect(seen).toEqual([0]);
    }
  });

  test('is withdrawn when a vector comes between the offer and the entry', () => {
    const { rig, cpu, ram, step, doors } = makeCpu(NOTHING, NOTHING);
    doors?.writeMsr(MSR, AT | ENABLED, 0);
    step();
    rig.send(0x41);
    cpu.interrupts.prepare(true);
    expect(ram[AT]).toBe(ENABLED);
    rig.send(0x22);
    cpu.interrupts.prepare(true);
    expect(ram[AT]).toBe(0);
  });

  test('is not offered for a level-triggered interrupt: the I/O APIC waits for its EOI', () => {
    const { rig, cpu, ram, step, doors } = makeCpu(NOTHING, NOTHING);
    doors?.writeMsr(MSR, AT | ENABLED, 0);
    step();
    rig.otherSystem.deliver({ destination: 0, vector: 0x41, ...LEVEL });
    cpu.interrupts.prepare(true);
    expect(ram[AT]).toBe(0);
  });

  test('ends with INIT, and when the guest switches it off', () => {
    const { rig, cpu, ram, step, doors } = makeCpu(NOTHING, NOTHING, HLT);
    doors?.writeMsr(MSR, AT | ENABLED, 0);
    doors?.writeMsr(MSR, 0, 0);
    step();
    rig.send(0x41);
    cpu.interrupts.prepare(true);
    expect(ram[AT]).toBe(0);
    doors?.writeMsr(MSR, AT | ENABLED, 0);
    rig.send(0, { deliveryMode: 5 });
    cpu.interrupts.prepare(true);
    expect(doors?.readMsr(MSR)).toBe(true);
    expect([doors?.msrLow, doors?.msrHigh]).toEqual([0, 0]);
  });

  test('switched off after it was offered, it ends nothing', () => {
    const { rig, cpu, step, doors, inService } = makeCpu(NOTHING, NOTHING);
    doors?.writeMsr(MSR, AT | ENABLED, 0);
    step();
    rig.send(0x31);
    cpu.interrupts.prepare(true);
    doors?.writeMsr(MSR, 0, 0);
    enterGuest(cpu);
    expect(inService()).toEqual([0x31]);
  });

  test('reads back as written; an address that is not aligned or not RAM is #GP, and changes nothing', () => {
    const { doors } = makeCpu();
    expect(doors?.writeMsr(MSR, AT | ENABLED, 0)).toBe(true);
    for (const [low, high] of [
      [AT | 2 | ENABLED, 0],
      [0x2000 | ENABLED, 0],
      [0xfffffffd, 0xffffffff],
      [AT | ENABLED, 1],
    ]) {
      expect(doors?.writeMsr(MSR, low, high)).toBe(false);
    }
    doors?.readMsr(MSR);
    expect([doors?.msrLow, doors?.msrHigh]).toEqual([AT | ENABLED, 0]);
    expect(doors?.writeMsr(MSR, 0xfffffffc, 0xffffffff)).toBe(true); // off: where it is does not matter
    doors?.readMsr(MSR);
    expect([doors?.msrLow, doors?.msrHigh]).toEqual([0xfffffffc, 0xffffffff]);
  });
});
