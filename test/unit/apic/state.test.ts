/** KVM_GET_LAPIC and KVM_SET_LAPIC, power-up and INIT (kvm_apic_get_state, kvm_apic_set_state, kvm_lapic_reset). */
import { describe, expect, it } from 'vitest';
import { ApicSystem } from '../../../src/apic/index.ts';
import {
  APIC_BASE,
  DFR,
  ICR2,
  ID,
  IRR,
  ISR,
  LDR,
  LINT0,
  LINT1,
  make,
  one,
  rdmsr,
  SPIV,
  sendMsi,
  setRegister,
  stateWord,
  TPR,
  VERSION,
  vectors,
  write,
  wrmsr,
  X2_ICR,
  X2_ID,
  X2_LDR,
} from './helpers.ts';

describe('the ID fix-up', () => {
  it('xAPIC mode: the ID is in bits 31:24 with the gate off and on', () => {
    for (const x2apicFormat of [false, true]) {
      const { apics } = make({ x2apicFormat }, [[0x123]]);
      expect(stateWord(apics[0], ID)).toBe(0x23000000);
    }
  });

  it('x2APIC mode: bits 31:24 with the gate off, all 32 bits with it on', () => {
    expect(stateWord(make({}, [[0x123, 'x2apic']]).apics[0], ID)).toBe(0x23000000);
    expect(stateWord(make({ x2apicFormat: true }, [[0x123, 'x2apic']]).apics[0], ID)).toBe(0x123);
  });

  it('gate on: another ID is refused, and only SPIV has changed', () => {
    const { apics } = make({ x2apicFormat: true }, [[0x123, 'x2apic']]);
    expect(setRegister(apics[0], { [ID]: 0x124, [SPIV]: 0xff, [TPR]: 0x55 })).toBe(false);
    expect([stateWord(apics[0], SPIV), stateWord(apics[0], TPR)]).toEqual([0xff, 0]);
  });

  it('gate off: another ID is ignored', () => {
    const { apics } = make({}, [[0x123, 'x2apic']]);
    expect(setRegister(apics[0], { [ID]: 0x77000000 })).toBe(true);
    expect(rdmsr(apics[0], X2_ID)).toBe(0x123);
  });

  it('x2APIC mode: the LDR of a state is ignored', () => {
    const { apics } = make({}, [[0x25, 'x2apic']]);
    setRegister(apics[0], { [LDR]: 0x99 });
    expect(rdmsr(apics[0], X2_LDR)).toBe(0x00020020);
  });

  it('xAPIC mode: ID, LDR and DFR of a state are taken as they are', () => {
    const { apics } = make({}, [[1]]);
    setRegister(apics[0], { [ID]: 0x12345678, [LDR]: 0x00abcdef, [DFR]: 0 });
    expect([ID, LDR, DFR].map((offset) => stateWord(apics[0], offset))).toEqual([0x12345678, 0x00abcdef, 0]);
  });
});

describe('the rest of the page', () => {
  it('goes in and comes out, reserved bytes and all, but for version, PPR and TMCCT', () => {
    const { apic } = one();
    const bytes = Uint8Array.from({ length: 1024 }, (_, i) => (i * 37 + 11) & 0xff);
    new DataView(bytes.buffer).setUint32(0x320, 0x10040, true); // a timer that counts would change TMCCT
    new DataView(bytes.buffer).setUint32(0x380, 0, true);
    expect(apic.setState(bytes)).toBe(true);
    const after = apic.getState();
    for (let i = 0; i < 1024; i++) {
      const register = i & ~3;
      if (register !== VERSION && register !== 0xa0 && register !== 0x390) expect([i, after[i]]).toEqual([i, bytes[i]]);
    }
  });

  it('the version register cannot be set', () => {
    const { apic } = one();
    setRegister(apic, { [VERSION]: 0 });
    expect(stateWord(apic, VERSION)).toBe(0x01050014);
  });

  it('software enable comes from SPIV, and the map follows', () => {
    const { system, apic } = one({}, 'disabled');
    setRegister(apic, { [LDR]: 0x01000000 });
    expect(system.map().logicalMode).toBe('none enabled');
    setRegister(apic, { [SPIV]: 0x1ff });
    expect(system.map().logicalMode).toBe('flat');
  });

  it('a state restores what was saved', () => {
    const { system, apics } = make({}, [[0], [1]]);
    sendMsi(system, 0, 0x41);
    apics[0].acknowledge();
    sendMsi(system, 0, 0x8091);
    const other = make({}, [[0], [1]]);
    other.apics[0].setState(apics[0].getState());
    other.apics[0].setState(apics[0].getState());
    expect(other.apics[0].getState()).toEqual(apics[0].getState());
    expect(other.apics[0].acknowledge()).toBe(0x91);
  });

  it('x2APIC mode, ICR one register: ICR2 of the state is its upper half', () => {
    const { apics } = make({}, [[0, 'x2apic']]);
    setRegister(apics[0], { [ICR2]: 0x5555 });
    expect(rdmsr(apics[0], X2_ICR)).toBe(0x5555 * 2 ** 32);
  });

  it('too few bytes are our fault, and said so', () => {
    const { apic } = one();
    expect(() => apic.setState(new Uint8Array(100))).toThrow(RangeError);
    expect(() => apic.getState(new Uint8Array(100))).toThrow(RangeError);
  });

  it('the same bytes can be filled again and again', () => {
    const { apic } = one();
    const bytes = new Uint8Array(1024);
    expect(apic.getState(bytes)).toBe(bytes);
  });
});

describe('INIT', () => {
  const busy = (mode: 'xapic' | 'x2apic', options = {}) => {
    const { system, apics } = make(options, [
      [0x25, mode],
      [0, mode],
    ]);
    const apic = apics[0];
    sendMsi(system, 0x25, 0x41);
    apic.acknowledge();
    sendMsi(system, 0x25, 0x8031);
    apic.setCr8(5);
    return { system, apic, boot: apics[1] };
  };

  it('keeps x2APIC mode, ID and LDR (ACRN issue 4267: it left x2APIC mode)', () => {
    const { apic } = busy('x2apic');
    apic.reset(true);
    expect([apic.mode, rdmsr(apic, X2_ID), rdmsr(apic, X2_LDR)]).toEqual(['x2apic', 0x25, 0x00020020]);
  });

  it('xAPIC mode: keeps the base and the ID, clears the LDR', () => {
    const { apic } = busy('xapic');
    write(apic, ID, 0x99000000);
    write(apic, LDR, 0x04000000);
    wrmsr(apic, APIC_BASE, 0xfed40800);
    apic.reset(true);
    expect([stateWord(apic, ID), stateWord(apic, LDR), apic.pageAddress]).toEqual([0x99000000, 0, 0xfed40000]);
  });

  it('clears IRR, ISR, TMR, TPR, and disables by software', () => {
    const { apic } = busy('x2apic');
    apic.reset(true);
    expect([vectors(apic, IRR), vectors(apic, ISR), apic.cr8, stateWord(apic, SPIV)]).toEqual([[], [], 0, 0xff]);
    expect(apic.pendingVector()).toBe(-1);
  });

  it('the boot processor has LINT0 open again, others have it masked', () => {
    const { apic, boot } = busy('xapic');
    apic.reset(true);
    boot.reset(true);
    expect([stateWord(apic, LINT0), stateWord(boot, LINT0), stateWord(boot, LINT1)]).toEqual([0x10000, 0x700, 0x10000]);
  });

  it('ICR: with the vendor splitting it in x2APIC mode, the upper half survives an INIT', () => {
    const { apic } = busy('x2apic', { x2apicIcrSplit: true });
    wrmsr(apic, X2_ICR, 0x4031, 7);
    apic.reset(true);
    expect(rdmsr(apic, X2_ICR)).toBe(7 * 2 ** 32);
    const whole = busy('x2apic').apic;
    wrmsr(whole, X2_ICR, 0x4031, 7);
    whole.reset(true);
    expect(rdmsr(whole, X2_ICR)).toBe(0);
  });

  it('drops NMIs that wait', () => {
    const { system, apic } = busy('xapic');
    sendMsi(system, 0x25, 0x400);
    apic.reset(true);
    expect(apic.hasNmi()).toBe(false);
  });
});

describe('power-up reset', () => {
  it('goes back to xAPIC mode at the default base with the own ID, and drops pending events', () => {
    const { system, apics } = make({}, [[0x25, 'x2apic'], [0]]);
    sendMsi(system, 0x25, 0x500);
    apics[0].reset(false);
    expect([apics[0].mode, apics[0].pageAddress, stateWord(apics[0], ID)]).toEqual(['xapic', 0xfee00000, 0x25000000]);
    expect(apics[0].hasEvents()).toBe(false);
  });
});

describe('the system', () => {
  it('refuses an ID twice, out of range, or past the last slot', () => {
    const system = new ApicSystem({ maxApics: 2, maxApicId: 0x123 });
    system.addApic(0x123);
    expect(() => system.addApic(0x123)).toThrow(/0x123|291/);
    expect(() => system.addApic(0x124)).toThrow(RangeError);
    expect(() => system.addApic(-1)).toThrow(RangeError);
    expect(() => system.addApic(1.5)).toThrow(RangeError);
    system.addApic(0);
    expect(() => system.addApic(1)).toThrow(RangeError);
    expect(() => system.apic(2)).toThrow(RangeError);
  });

  it('refuses options that make no sense', () => {
    expect(() => new ApicSystem({ maxApics: 0 })).toThrow(RangeError);
    expect(() => new ApicSystem({ physicalAddressBits: 64 })).toThrow(RangeError);
    expect(() => new ApicSystem({ behaviour: 'bochs' as 'kvm' })).toThrow(RangeError);
    expect(() => ApicSystem.attach(new SharedArrayBuffer(1024))).toThrow(RangeError);
    expect(() => ApicSystem.attach(new ArrayBuffer(4))).toThrow(RangeError);
  });

  it('finds APICs by ID, and by the boot flag that was asked for', () => {
    const system = new ApicSystem();
    system.addApic(7);
    const boot = system.addApic(9, { bootstrap: true });
    expect(system.apicById(9)).toBe(boot);
    expect(system.apicById(8)).toBeUndefined();
    expect(boot.apicBase()).toBe(0xfee00900n);
  });

  it('needs no shared memory', () => {
    const system = new ApicSystem({ shared: false });
    system.addApic(0).writeMmio(0xf0, 4, 0x1ff);
    expect(system.memory).toBeInstanceOf(ArrayBuffer);
    expect(sendMsi(system, 0, 0x41)).toBe(1);
  });

  it('a snapshot is a plain object that survives structured cloning', () => {
    const { system, apic } = one();
    expect(structuredClone(apic.snapshot())).toEqual(apic.snapshot());
    expect(structuredClone(system.map())).toEqual(system.map());
    expect(apic.snapshot()).toMatchObject({ apicId: 0, mode: 'xapic', softwareEnabled: true, apicBase: '0xfee00900' });
  });

  it('a snapshot in x2APIC mode shows the upper half of ICR as ICR2, as the state does', () => {
    const { apic } = one();
    write(apic, ICR2, 0x77000000);
    apic.setApicBase(0xfee00d00, 0);
    apic.writeMsr(0x830, 0x4031, 0x123);
    expect(apic.snapshot().registers).toMatchObject({ ICR: 0x4031, ICR2: 0x123 });
  });

  it('an attached view is the same system, options and rules included', () => {
    const system = new ApicSystem({ x2apicFormat: true, behaviour: 'hardware', tscKhz: 12345, breakRules: ['gate'] });
    system.addApic(0x123).writeMmio(0xf0, 4, 0x1ff);
    const view = ApicSystem.attach(system.memory);
    expect(view.options).toEqual(system.options);
    expect(view.apic(0).apicId).toBe(0x123);
    system.addApic(5);
    expect(view.count).toBe(2);
    expect(view.apicById(5)?.vcpuIndex).toBe(1);
    expect(view.map()).toEqual(system.map());
  });
});

describe('a new APIC and the map', () => {
  it('is in the map at once', () => {
    const system = new ApicSystem();
    system.addApic(5);
    expect(sendMsi(system, 5, 0x400)).toBe(1);
  });

  it('lateMapEntry: as KVM_CREATE_VCPU leaves it, not before the next rebuild', () => {
    const system = new ApicSystem({ lateMapEntry: true });
    const apic = system.addApic(5);
    expect(sendMsi(system, 5, 0x400)).toBe(0);
    apic.setState(apic.getState());
    expect(sendMsi(system, 5, 0x400)).toBe(1);
  });
});
