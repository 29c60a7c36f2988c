/** The xAPIC register page over MMIO: what each register keeps, and which accesses do nothing (SDM vol. 3A, 12.4.1; KVM). */
import { describe, expect, it } from 'vitest';
import {
  APR,
  DFR,
  EOI,
  ESR,
  enter,
  ICR,
  ICR2,
  ID,
  IRR,
  ISR,
  LDR,
  LINT0,
  LINT1,
  LVT_CMCI,
  LVT_ERROR,
  LVT_PERFORMANCE,
  LVT_THERMAL,
  LVT_TIMER,
  MASKED,
  make,
  one,
  PPR,
  read,
  SPIV,
  setRegister,
  TDCR,
  TMCCT,
  TMICT,
  TMR,
  TPR,
  VERSION,
  vectors,
  write,
} from './helpers.ts';

describe('register values after power-up (SDM 12.4.7.1)', () => {
  it('the boot processor has LINT0 open for the PIC, everything else is masked', () => {
    const { apic } = one({}, 'disabled');
    expect(read(apic, LINT0)).toBe(0x700);
    for (const lvt of [LVT_TIMER, LVT_THERMAL, LVT_PERFORMANCE, LINT1, LVT_ERROR]) expect(read(apic, lvt)).toBe(MASKED);
    expect(apic.acceptsPic()).toBe(true);
  });

  it('another processor has LINT0 masked', () => {
    const { apics } = make({}, [[1, 'disabled']]);
    expect(read(apics[0], LINT0)).toBe(MASKED);
    expect(apics[0].acceptsPic()).toBe(false);
  });

  it('ID is the low byte of the APIC ID in bits 31:24', () => {
    const { apics } = make({}, [[0x23], [0x123]]);
    expect(apics.map((apic) => read(apic, ID))).toEqual([0x23000000, 0x23000000]);
  });

  it('SPIV is 0xff, DFR is flat, the rest is zero', () => {
    const { apic } = one({}, 'disabled');
    expect(read(apic, SPIV)).toBe(0xff);
    expect(read(apic, DFR)).toBe(0xffffffff);
    for (const zero of [TPR, PPR, LDR, ESR, ICR, ICR2, TMICT, TMCCT, TDCR]) expect(read(apic, zero)).toBe(0);
  });

  it.each([
    [{}, 0x01050014],
    [{ ioapicInKernel: true }, 0x00050014],
    [{ cmci: true }, 0x01060014],
    [{ suppressEoiBroadcast: 'disabled' as const }, 0x00050014],
    [{ suppressEoiBroadcast: 'enabled' as const, ioapicInKernel: true }, 0x01050014],
    [{ x2apicCpuid: false }, 0x00050014],
  ])('the version register with %o is %i', (options, version) => {
    expect(read(one(options).apic, VERSION)).toBe(version);
  });
});

describe('what a write keeps', () => {
  it.each([
    ['TPR', TPR, 0xff],
    ['LDR', LDR, 0xff000000],
    ['DFR', DFR, 0xffffffff],
    ['SPIV', SPIV, 0x13ff],
    ['ID', ID, 0xff000000],
    ['ICR2', ICR2, 0xff000000],
    ['TDCR', TDCR, 0xb],
    ['TMICT', TMICT, 0xffffffff],
    ['LVT timer', LVT_TIMER, 0x000710ff],
    ['LVT thermal', LVT_THERMAL, 0x000117ff],
    ['LVT performance', LVT_PERFORMANCE, 0x000117ff],
    ['LINT0', LINT0, 0x0001f7ff],
    ['LINT1', LINT1, 0x0001f7ff],
    ['LVT error', LVT_ERROR, 0x000110ff],
  ])('%s', (_name, offset, mask) => {
    const { apic } = one();
    write(apic, offset, 0xffffffff);
    expect(read(apic, offset)).toBe(mask >>> 0);
  });

  it('DFR keeps only its top four bits, the others read as ones', () => {
    const { apic } = one();
    write(apic, DFR, 0);
    expect(read(apic, DFR)).toBe(0x0fffffff);
    write(apic, DFR, 0x70000000);
    expect(read(apic, DFR)).toBe(0x7fffffff);
  });

  it('SPIV bit 12 is kept only where the version register offers EOI-broadcast suppression', () => {
    const { apic } = one({ ioapicInKernel: true });
    write(apic, SPIV, 0xffffffff);
    expect(read(apic, SPIV)).toBe(0x3ff);
  });

  it('the timer LVT has no TSC-deadline bit where CPUID has no TSC deadline', () => {
    const { apic } = one({ tscDeadlineCpuid: false });
    write(apic, LVT_TIMER, 0xffffffff);
    expect(read(apic, LVT_TIMER)).toBe(0x000310ff);
  });

  it('ICR never shows BUSY, and keeps every other bit', () => {
    const { apic } = one();
    write(apic, ICR, 0xfff3ffff & ~0x700);
    expect(read(apic, ICR)).toBe((0xfff3ffff & ~0x700 & ~0x1000) >>> 0);
  });

  it('read-only registers ignore writes', () => {
    const { apic } = one();
    for (const offset of [VERSION, APR, PPR, ISR, TMR, IRR, TMCCT]) {
      const before = read(apic, offset);
      write(apic, offset, 0xffffffff);
      expect(read(apic, offset)).toBe(before);
    }
  });

  it('ESR stays zero: KVM records no error', () => {
    const { apic } = one();
    write(apic, ICR, 0x0000000f); // a vector below 16 would be a send error
    write(apic, ESR, 0xffffffff);
    expect(read(apic, ESR)).toBe(0);
  });

  it('the CMCI entry exists only with MCG_CMCI_P', () => {
    const without = one().apic;
    write(without, LVT_CMCI, 0x31);
    expect(read(without, LVT_CMCI)).toBe(0);
    expect(without.mmioDefined).toBe(false);
    const { apic } = one({ cmci: true });
    write(apic, LVT_CMCI, 0xffffffff);
    expect(read(apic, LVT_CMCI)).toBe(0x000117ff);
  });
});

describe('software disable (SDM 12.4.7.2)', () => {
  it('masks every LVT entry, and none can be unmasked until it is enabled again', () => {
    const { apic } = one();
    for (const lvt of [LVT_TIMER, LVT_THERMAL, LVT_PERFORMANCE, LINT0, LINT1, LVT_ERROR]) write(apic, lvt, 0x40);
    write(apic, SPIV, 0xff);
    for (const lvt of [LVT_TIMER, LVT_THERMAL, LVT_PERFORMANCE, LINT0, LINT1, LVT_ERROR]) {
      expect(read(apic, lvt)).toBe(MASKED | 0x40);
      write(apic, lvt, 0x50);
      expect(read(apic, lvt)).toBe(MASKED | 0x50);
    }
    write(apic, SPIV, 0x1ff);
    expect(read(apic, LINT1)).toBe(MASKED | 0x50);
    write(apic, LINT1, 0x50);
    expect(read(apic, LINT1)).toBe(0x50);
  });

  it('keeps what is in IRR and ISR', () => {
    const { system, apic } = one();
    system.signalMsi(0xfee00000, 0, 0x41);
    expect(apic.acknowledge()).toBe(0x41);
    system.signalMsi(0xfee00000, 0, 0x91);
    write(apic, SPIV, 0xff);
    expect([vectors(apic, IRR), vectors(apic, ISR)]).toEqual([[0x91], [0x41]]);
    write(apic, SPIV, 0x1ff);
    expect(apic.acknowledge()).toBe(0x91);
  });

  it('a fixed interrupt is refused, an NMI is not', () => {
    const { system, apic } = one({}, 'disabled');
    expect(system.signalMsi(0xfee00000, 0, 0x41)).toBe(0);
    expect(system.signalMsi(0xfee00000, 0, 0x400)).toBe(1);
    expect(apic.takeNmis()).toBe(1);
  });
});

describe('short and unaligned accesses', () => {
  it('reads of 1 and 2 bytes inside a register answer its bytes', () => {
    const { apic } = one();
    write(apic, SPIV, 0x1ff);
    expect([apic.readMmio(SPIV, 1), apic.readMmio(SPIV + 1, 1), apic.readMmio(SPIV, 2)]).toEqual([0xff, 1, 0x1ff]);
    expect(apic.readMmio(ID + 3, 1)).toBe(0);
  });

  it.each([
    ['past the four bytes of a register', SPIV + 2, 4],
    ['in the gap between registers', SPIV + 4, 4],
    ['eight bytes', SPIV, 8],
    ['a write-only register', EOI, 4],
    ['no register', 0x40, 4],
    ['past the last register', 0x3f4, 4],
    ['the end of the page', 0xffc, 4],
  ])('a read %s answers 0 and says that it met nothing', (_name, offset, length) => {
    const { apic } = one();
    expect(apic.readMmio(offset, length)).toBe(0);
    expect(apic.mmioDefined).toBe(false);
  });

  it.each([
    [TPR, 1],
    [TPR, 2],
    [TPR, 8],
    [TPR + 4, 4],
    [TPR + 1, 4],
  ])('a write to %i of %i bytes is dropped', (offset, length) => {
    const { apic } = one();
    apic.writeMmio(offset, length, 0x55);
    expect(read(apic, TPR)).toBe(0);
  });
});

describe('the page when it does not answer', () => {
  it.each(['off', 'x2apic'] as const)('%s: reads are all ones, writes are lost', (mode) => {
    const { apic } = one();
    write(apic, TPR, 0x20);
    enter(apic, mode);
    expect(apic.mmioEnabled()).toBe(false);
    expect([apic.readMmio(TPR, 1), apic.readMmio(TPR, 2), read(apic, TPR)]).toEqual([0xff, 0xffff, 0xffffffff]);
    expect([apic.readMmio(TPR, 8), apic.mmioHigh]).toEqual([0xffffffff, 0xffffffff]);
    write(apic, TPR, 0x40);
    expect(apic.cr8).toBe(2);
  });

  it('a garbage write to every offset of the page in every length leaves the APIC working', () => {
    const { system, apic } = one();
    for (let offset = 0; offset < 0x1000; offset++) {
      for (const length of [1, 2, 4, 8]) apic.writeMmio(offset, length, 0xdeadbeef);
    }
    apic.reset(false);
    write(apic, SPIV, 0x1ff);
    expect(system.signalMsi(0xfee00000, 0, 0x41)).toBe(1);
    expect(setRegister(apic, {})).toBe(true);
  });
});
