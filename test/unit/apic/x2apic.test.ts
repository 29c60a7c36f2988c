/** x2APIC MSRs and IA32_APIC_BASE: values, #GP rules, transitions (SDM vol. 3A, 12.12; KVM's lapic.c). */
import { describe, expect, it } from 'vitest';
import {
  APIC_BASE,
  BASE_DISABLED,
  BASE_X2APIC,
  BASE_XAPIC,
  DFR,
  ENABLE,
  ID,
  IRR,
  LDR,
  make,
  one,
  rdmsr,
  read,
  stateWord,
  vectors,
  wrmsr,
  X2_EOI,
  X2_ESR,
  X2_ICR,
  X2_ID,
  X2_LDR,
  X2_SELF_IPI,
  X2_SPIV,
  X2_TPR,
} from './helpers.ts';

const x2 = (options = {}) => one(options, 'x2apic').apic;

describe('registers in x2APIC mode', () => {
  it('ID is the 32-bit APIC ID, LDR is derived from it (SDM 12.12.10.2)', () => {
    const { apics } = make({}, [
      [0, 'x2apic'],
      [0x123, 'x2apic'],
      [0xfff, 'x2apic'],
    ]);
    expect(apics.map((apic) => rdmsr(apic, X2_ID))).toEqual([0, 0x123, 0xfff]);
    expect(apics.map((apic) => rdmsr(apic, X2_LDR))).toEqual([1, 0x00120008, 0x00ff8000]);
  });

  it('which MSRs can be read', () => {
    const apic = x2();
    const readable: number[] = [];
    for (let msr = 0x800; msr <= 0x8ff; msr++) if (rdmsr(apic, msr) !== '#GP') readable.push(msr - 0x800);
    const banks = Array.from({ length: 24 }, (_, i) => 0x10 + i);
    expect(readable).toEqual([
      0x02,
      0x03,
      0x08,
      0x0a,
      0x0d,
      0x0f,
      ...banks,
      0x28,
      0x30,
      0x32,
      0x33,
      0x34,
      0x35,
      0x36,
      0x37,
      0x38,
      0x39,
      0x3e,
    ]);
  });

  it('which MSRs can be written with zero', () => {
    const apic = x2();
    const writable: number[] = [];
    for (let msr = 0x800; msr <= 0x8ff; msr++) if (wrmsr(apic, msr, 0) === 'ok') writable.push(msr - 0x800);
    expect(writable).toEqual([0x08, 0x0b, 0x0f, 0x28, 0x30, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38, 0x3e, 0x3f]);
  });

  it('with MCG_CMCI_P the CMCI entry is one of them', () => {
    expect(wrmsr(x2({ cmci: true }), 0x82f, 0)).toBe('ok');
    expect(rdmsr(x2({ cmci: true }), 0x82f)).toBe(0x10000);
  });

  it('outside x2APIC mode all of them are #GP', () => {
    for (const mode of ['xapic', 'off'] as const) {
      const { apic } = one({}, mode);
      for (const msr of [X2_ID, X2_TPR, X2_ICR, X2_SELF_IPI]) {
        expect(rdmsr(apic, msr)).toBe('#GP');
        expect(wrmsr(apic, msr, 0)).toBe('#GP');
      }
    }
  });

  it('bits 63:32 are #GP in every register but ICR', () => {
    const apic = x2();
    expect(wrmsr(apic, X2_TPR, 0, 1)).toBe('#GP');
    expect(wrmsr(apic, X2_EOI, 0, 1)).toBe('#GP');
    expect(wrmsr(apic, X2_ICR, 0, 0x777)).toBe('ok');
  });

  it('EOI takes any 32-bit value: KVM does not insist on zero', () => {
    expect(wrmsr(x2(), X2_EOI, 5)).toBe('ok');
  });

  it('ESR takes only zero', () => {
    const apic = x2();
    expect([wrmsr(apic, X2_ESR, 0), wrmsr(apic, X2_ESR, 1)]).toEqual(['ok', '#GP']);
  });

  it('reserved bits of TPR and SPIV are dropped, not #GP', () => {
    const apic = x2();
    expect(wrmsr(apic, X2_TPR, 0x1ff)).toBe('ok');
    expect(rdmsr(apic, X2_TPR)).toBe(0xff);
    expect(wrmsr(apic, X2_SPIV, 0xffffffff)).toBe('ok');
    expect(rdmsr(apic, X2_SPIV)).toBe(0x13ff);
  });
});

describe('ICR in x2APIC mode', () => {
  it.each([13, 16, 17, 20, 21, 31])('bit %i is reserved: #GP, and nothing is sent', (bit) => {
    const apic = x2();
    expect(wrmsr(apic, X2_ICR, (0x40031 | (1 << bit)) >>> 0)).toBe('#GP');
    expect(vectors(apic, IRR)).toEqual([]);
    expect(rdmsr(apic, X2_ICR)).toBe(0);
  });

  it('BUSY is dropped, not #GP; the whole 64 bits read back', () => {
    const apic = x2();
    expect(wrmsr(apic, X2_ICR, 0x1031, 0xabcdef01)).toBe('ok');
    expect(rdmsr(apic, X2_ICR)).toBe(0xabcdef01 * 2 ** 32 + 0x31);
  });

  it('where ICR is one register its upper half is at 0x304, and the state has it at 0x310 too', () => {
    const apic = x2();
    wrmsr(apic, X2_ICR, 0x31, 7);
    expect([0x300, 0x304, 0x310].map((offset) => stateWord(apic, offset))).toEqual([0x31, 7, 7]);
  });

  it('where the vendor splits it (SVM), 0x304 is untouched', () => {
    const apic = x2({ x2apicIcrSplit: true });
    wrmsr(apic, X2_ICR, 0x31, 7);
    expect([0x300, 0x304, 0x310].map((offset) => stateWord(apic, offset))).toEqual([0x31, 0, 7]);
    expect(rdmsr(apic, X2_ICR)).toBe(7 * 2 ** 32 + 0x31);
  });
});

describe('SELF_IPI', () => {
  it('requests its vector from itself, and cannot be read', () => {
    const apic = x2();
    expect(wrmsr(apic, X2_SELF_IPI, 0x77)).toBe('ok');
    expect(vectors(apic, IRR)).toEqual([0x77]);
    expect(rdmsr(apic, X2_SELF_IPI)).toBe('#GP');
  });

  it('bits 31:8 are #GP', () => {
    const apic = x2();
    expect(wrmsr(apic, X2_SELF_IPI, 0x177)).toBe('#GP');
    expect(vectors(apic, IRR)).toEqual([]);
  });
});

describe('IA32_APIC_BASE', () => {
  const modes = { disabled: BASE_DISABLED, invalid: 0xfee00400, xapic: BASE_XAPIC, x2apic: BASE_X2APIC };
  /** Every transition of SDM figure 12-27. */
  const allowed: Record<string, readonly string[]> = {
    disabled: ['disabled', 'xapic'],
    xapic: ['disabled', 'xapic', 'x2apic'],
    x2apic: ['disabled', 'x2apic'],
  };
  for (const [from, reachable] of Object.entries(allowed)) {
    for (const [to, low] of Object.entries(modes)) {
      it(`${from} to ${to} is ${reachable.includes(to) ? 'allowed' : '#GP'}`, () => {
        const { apic } = one({}, from === 'disabled' ? 'off' : (from as 'xapic' | 'x2apic'));
        expect(wrmsr(apic, APIC_BASE, low)).toBe(reachable.includes(to) ? 'ok' : '#GP');
        expect(apic.mode).toBe(reachable.includes(to) ? to : from);
      });
    }
  }

  it('the host may go anywhere but to the invalid mode', () => {
    const { apic } = one({}, 'x2apic');
    expect(apic.setApicBaseFromHost(BASE_XAPIC, 0)).toBe(true);
    expect(apic.setApicBaseFromHost(BASE_DISABLED, 0)).toBe(true);
    expect(apic.setApicBaseFromHost(BASE_X2APIC, 0)).toBe(true);
    expect(apic.setApicBaseFromHost(0xfee00400, 0)).toBe(false);
  });

  it.each([0, 1, 7, 9])('bit %i is reserved', (bit) => {
    expect(wrmsr(one().apic, APIC_BASE, (BASE_XAPIC | (1 << bit)) >>> 0)).toBe('#GP');
  });

  it('bits from MAXPHYADDR up are reserved', () => {
    const { apic } = one({ physicalAddressBits: 40 });
    expect(wrmsr(apic, APIC_BASE, BASE_XAPIC, 0xff)).toBe('ok');
    expect(wrmsr(apic, APIC_BASE, BASE_XAPIC, 0x100)).toBe('#GP');
    expect(apic.pageAddress).toBe(0xff_fee0_0000);
    expect(apic.apicBase()).toBe(0xff_fee0_0800n);
  });

  it('x2APIC needs its CPUID bit', () => {
    expect(wrmsr(one({ x2apicCpuid: false }).apic, APIC_BASE, BASE_X2APIC)).toBe('#GP');
  });

  it('the BSP flag is writable, and set at reset on the boot processor alone', () => {
    const { apics } = make({}, [[0], [1]]);
    expect(apics.map((apic) => rdmsr(apic, APIC_BASE))).toEqual([0xfee00900, 0xfee00800]);
    expect(wrmsr(apics[1], APIC_BASE, 0xfee00900)).toBe('ok');
    expect(apics[1].isBootProcessor).toBe(true);
  });

  it('disabling and enabling gives the xAPIC ID back', () => {
    const { apics } = make({}, [[5]]);
    apics[0].writeMmio(ID, 4, 0x99000000);
    wrmsr(apics[0], APIC_BASE, BASE_DISABLED);
    wrmsr(apics[0], APIC_BASE, BASE_XAPIC);
    expect(read(apics[0], ID)).toBe(0x05000000);
  });

  it('the LDR of x2APIC mode stays behind when the APIC goes through disabled to xAPIC', () => {
    const { apics } = make({}, [[0x25, 'x2apic']]);
    wrmsr(apics[0], APIC_BASE, BASE_DISABLED);
    wrmsr(apics[0], APIC_BASE, BASE_XAPIC);
    expect(read(apics[0], LDR)).toBe(0x00020020);
    expect(read(apics[0], DFR)).toBe(0xffffffff);
  });

  it('a moved base is an APICv inhibit reason that stays', () => {
    const { system, apics } = make({}, [[0]]);
    wrmsr(apics[0], APIC_BASE, 0xfed40800);
    expect(apics[0].pageAddress).toBe(0xfed40000);
    wrmsr(apics[0], APIC_BASE, BASE_XAPIC);
    expect(system.map().inhibits).toEqual(['APIC base modified']);
  });

  it('other MSRs are not ours', () => {
    const { apic } = one();
    expect(rdmsr(apic, 0x10)).toBe('#GP');
    expect(wrmsr(apic, 0x900, 0)).toBe('#GP');
    expect(apic.snapshot().counters.faults).toBe(2);
  });

  it('enabling by software survives the switch to x2APIC', () => {
    const { apic } = one();
    wrmsr(apic, APIC_BASE, BASE_X2APIC);
    expect(rdmsr(apic, X2_SPIV)).toBe(ENABLE);
  });
});
