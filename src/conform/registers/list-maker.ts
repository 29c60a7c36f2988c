/**
 * Makes a list of register operations from recipes of small numbers. It follows each CPU's mode roughly, so that most
 * accesses go through the door that is open, and sees to it that no timer runs out at a time that nobody knows.
 */
import { BASE, LVT_OFFSETS, MSR, PAGE_BYTES, REG, REGISTERS, TIMER_MODE } from '../../apic/index.ts';
import type { ApicSpec, GuestKind, GuestOperation } from '../spec.ts';

export interface OperationRecipe {
  readonly what: number;
  readonly cpu: number;
  readonly register: number;
  readonly choice: number;
  readonly value: number;
  readonly more: number;
}

/** The time stamp counter of the machines. */
export interface Tsc {
  /** How many ticks make a wait. */
  readonly khz: number;
  /** Upper half of what it was when the machines were made. */
  readonly high: number;
}

/** The recipe that is a short timer: one in 128, for it takes a millisecond and a half. */
const SHORT_TIMER = 119;
export const X2APIC = BASE.ENABLE | BASE.EXTD;
export const DEFAULT_PAGE = 0xfee00000;
export const DFR_FLAT = 0xffffffff;
export const DFR_CLUSTER = 0x0fffffff;
export const PAGES = [0xfed40000, 0xfee01000, 0xd0000000, 0xfff00000];

interface Tracked {
  readonly apicId: number;
  base: number;
}

const SIZES = [1, 2, 4, 8] as const;
const VECTORS = [0x31, 0x32, 0x41, 0x45, 0x80, 0x81, 0xfe, 0x20, 0x10, 0x0f];
const LVTS: readonly number[] = LVT_OFFSETS.filter((offset) => offset !== REG.LVT_TIMER);
export const MASKED = 1 << 16; // an LVT entry
/** Long enough not to run out before a list ends, also on a busy host. */
const LONG_COUNT = 0xc0000000;
/** Nanoseconds: what a short timer counts at most, and how long is waited for it. */
const SHORT_COUNT = 60_000;
const SHORT_WAIT = 300_000;
/**
 * How far ahead of the TSC a far deadline is, in its upper half: 2^41 ticks, some 15 minutes. It must not be much more: KVM
 * (start_sw_tscdeadline) multiplies the ticks to go by 1,000,000 in 64 bits, which wraps at 1.8e13, two hours.
 */
const FAR_AHEAD_HIGH = 0x200;

export class ListMaker {
  readonly operations: GuestOperation[] = [];
  readonly #cpus: Tracked[];
  readonly #tsc: Tsc;
  readonly #cr8Writes: boolean;
  readonly #wholeTpr: boolean;
  #units = 0;
  #unit: number | undefined;

  /** @param may whether there are writes to CR8, and whether TPR's low bits may be set */
  constructor(apics: readonly ApicSpec[], tsc: Tsc, may: { readonly cr8: boolean; readonly wholeTpr: boolean }) {
    this.#cr8Writes = may.cr8;
    this.#wholeTpr = may.wholeTpr;
    this.#cpus = apics.map(({ apicId, baseLow }) => ({ apicId, base: baseLow }));
    this.#tsc = tsc;
  }

  add(recipe: OperationRecipe): void {
    const cpu = recipe.cpu % this.#cpus.length;
    const { what, register, choice, value, more } = recipe;
    this.#unit = this.#units += 1;
    if (what < 16) this.#read(cpu, readables[register % readables.length] ?? REG.ID);
    else if (what < 38) this.#writeSome(cpu, register, choice, value, more);
    else if (what < 66) this.#sendIpi(cpu, recipe);
    else if (what < 82) this.#put('window', cpu, 0, 0, 0, choice < 56 ? 1 : 0);
    else if (what < 88) this.#write(cpu, REG.EOI, choice === 255 ? value : 0);
    else if (what < 94) this.#cr8(cpu, choice, value);
    else if (what < 100) this.#oddMmio(cpu, recipe);
    else if (what < 107) this.#oddMsr(cpu, recipe);
    else if (what < 114) this.#setBase(cpu, recipe);
    else if (what < 119) this.#deadline(cpu, recipe);
    else if (what === SHORT_TIMER) this.#shortTimer(cpu, recipe);
    else if (what < 123) this.#longTimer(cpu, recipe);
    else this.#write(cpu, REG.SPIV, choice < 128 ? 0x1ff : choice < 192 ? 0xff : value & 0x1fff);
  }

  #put(kind: GuestKind, cpu: number, address = 0, low = 0, high = 0, size = 4): void {
    const kept = !this.#wholeTpr && isTprWrite(kind, address) ? low & ~0xf : low;
    const operation = { kind, cpu, size, address: address >>> 0, low: kept >>> 0, high: high >>> 0 };
    this.operations.push(this.#unit === undefined ? operation : { ...operation, unit: this.#unit });
  }

  #tracked(cpu: number): Tracked {
    const tracked = this.#cpus[cpu];
    if (tracked === undefined) throw new RangeError(`no CPU ${cpu}`);
    return tracked;
  }

  #isX2apic(cpu: number): boolean {
    return (this.#tracked(cpu).base & X2APIC) === X2APIC;
  }

  #page(cpu: number): number {
    return (this.#tracked(cpu).base & ~(PAGE_BYTES - 1)) >>> 0;
  }

  #read(cpu: number, register: number): void {
    if (this.#isX2apic(cpu)) this.#put('rdmsr', cpu, msrOf(register));
    else this.#put('mmio-read', cpu, this.#page(cpu) + register);
  }

  #write(cpu: number, register: number, low: number, high = 0): void {
    if (this.#isX2apic(cpu)) this.#put('wrmsr', cpu, msrOf(register), low, high);
    else this.#put('mmio-write', cpu, this.#page(cpu) + register, low);
  }

  #writeSome(cpu: number, which: number, choice: number, value: number, more: number): void {
    const high = more % 16 === 15 ? more >>> 4 : 0;
    const vector = vectorOf(value);
    switch (which % 16) {
      case 0:
      case 1:
        this.#write(cpu, REG.TPR, choice < 200 ? value & 0xff : value, high);
        break;
      case 2:
        this.#write(cpu, REG.SPIV, choice < 100 ? 0x1ff : choice < 150 ? 0xff : value & 0x1fff, high);
        break;
      case 3:
        this.#write(cpu, REG.LDR, choice < 128 ? 1 << (24 + (value & 7)) : value, high);
        break;
      case 4:
        this.#write(cpu, REG.DFR, choice < 100 ? DFR_FLAT : choice < 200 ? DFR_CLUSTER : value, high);
        break;
      case 5:
        this.#write(cpu, REG.ID, ((this.#cpus[choice % this.#cpus.length]?.apicId ?? 0) & 0xff) * 2 ** 24, high);
        break;
      case 6:
      case 7:
      case 8:
        this.#write(
          cpu,
          LVTS[choice % LVTS.length] ?? REG.LVT_ERROR,
          more % 4 === 0 ? value * 2 : value & 0x1ffff,
          high,
        );
        break;
      case 9: {
        const lvt = (more % 4 === 0 ? (value * 2) & ~0xff : value & 0x70000) | vector;
        this.#write(cpu, REG.LVT_TIMER, lvt, high);
        // A deadline that has passed may have waited for its unmasking.
        if ((lvt & TIMER_MODE.MASK) === TIMER_MODE.TSC_DEADLINE) this.#breathe(cpu);
        break;
      }
      case 10:
        this.#write(cpu, REG.ESR, choice < 128 ? 0 : value, high);
        break;
      case 11:
        this.#write(cpu, REG.TDCR, choice < 200 ? value & 0xf : value, high);
        break;
      case 12:
        this.#write(cpu, REG.SELF_IPI, choice < 180 ? vector : value, high);
        break;
      case 13:
        this.#write(cpu, REG.ICR2, choice < 200 ? (value & 0xff) * 2 ** 24 : value, high);
        break;
      case 14:
        this.#write(cpu, REG.EOI, 0, high);
        break;
      default: {
        const register = readables[choice % readables.length] ?? REG.ID;
        if (register !== REG.ICR && register !== REG.TMICT) this.#write(cpu, register, value, high);
      }
    }
  }

  #sendIpi(cpu: number, { register, choice, value, more }: OperationRecipe): void {
    const mode = MODES[register % MODES.length] ?? 0;
    const shorthand = choice < 150 ? 0 : choice < 190 ? 1 : choice < 222 ? 2 : 3;
    const logical = (more & 3) === 3;
    const trigger = (more & 0x70) === 0x70 ? (more >>> 7) & 1 : 0;
    const assert = (more & 0x700) === 0x700 ? (more >>> 11) & 1 : 1;
    const odd = (more & 0x7000) === 0x7000 ? (ODD_ICR_BITS[(more >>> 16) % ODD_ICR_BITS.length] ?? 0) : 0;
    let low =
      vectorOf(value) | (mode << 8) | (logical ? 1 << 11 : 0) | (assert << 14) | (trigger << 15) | (shorthand << 18);
    low |= odd;
    const target = this.#tracked((value >>> 8) % this.#cpus.length);
    const to = destinationOf(target, logical, (value >>> 12) & 0xff, more >>> 20, (value >>> 8) % this.#cpus.length);
    if (this.#isX2apic(cpu)) {
      this.#put('wrmsr', cpu, msrOf(REG.ICR), low, to);
    } else {
      if (shorthand === 0)
        this.#put(
          'mmio-write',
          cpu,
          this.#page(cpu) + REG.ICR2,
          (to << 24) | ((more & 3) === 1 ? value & 0xffffff : 0),
        );
      this.#put('mmio-write', cpu, this.#page(cpu) + REG.ICR, low);
    }
    // A SIPI that is still pending when INIT comes.
    const last = this.operations.at(-1);
    if (mode === STARTUP && (more & 0x80000) !== 0 && last !== undefined && shorthand === 0) {
      this.operations.pop();
      this.operations.push({ ...last, unattended: true });
      this.operations.push({ ...last, low: (last.low & ~0x700) | (INIT << 8) });
    }
  }

  #cr8(cpu: number, choice: number, value: number): void {
    if (choice < 100 || !this.#cr8Writes) this.#put('read-cr8', cpu);
    else if (choice < 230) this.#put('write-cr8', cpu, 0, value & 0xf);
    else this.#put('write-cr8', cpu, 0, value & 0x1f, choice < 245 ? 0 : value);
  }

  /** All sizes, all alignments, all offsets, also beyond the registers; whatever mode it is in. */
  #oddMmio(cpu: number, { register, choice, value, more }: OperationRecipe): void {
    const size = SIZES[choice & 3] ?? 4;
    const page = (more & 7) === 7 ? DEFAULT_PAGE : this.#page(cpu);
    const offset = (more & 8) === 0 ? ((register << 4) & 0x3ff) + ((choice >>> 2) & 15) : (value >>> 8) & 0xfff;
    const at = page + Math.min(offset, PAGE_BYTES - size);
    if ((choice & 0x40) === 0) this.#put('mmio-read', cpu, at, 0, 0, size);
    else if (isHarmless(offset, size)) this.#put('mmio-write', cpu, at, value, more, size);
  }

  #oddMsr(cpu: number, { register, choice, value, more }: OperationRecipe): void {
    const msr = (more & 1) === 0 ? MSR.X2APIC_FIRST + (register & 0x3f) : MSR.X2APIC_FIRST + register;
    if ((choice & 1) === 0) this.#put('rdmsr', cpu, msr);
    else if (isHarmless((msr - MSR.X2APIC_FIRST) << 4, 4))
      this.#put('wrmsr', cpu, msr, (choice & 2) === 0 ? 0 : value, (choice & 0x1c) === 0 ? more : 0);
  }

  #setBase(cpu: number, { register, choice, value, more }: OperationRecipe): void {
    if (register < 50) {
      this.#put('rdmsr', cpu, MSR.APIC_BASE);
      return;
    }
    const tracked = this.#tracked(cpu);
    const mode = [BASE.ENABLE, X2APIC, 0, BASE.EXTD, X2APIC, BASE.ENABLE][choice % 6] ?? 0;
    const page = (more & 15) === 15 ? (PAGES[(more >>> 4) % PAGES.length] ?? DEFAULT_PAGE) : this.#page(cpu);
    const reserved = (more & 0xf00) === 0xf00 ? (1 << ((value >>> 8) % 10)) & ~BASE.BSP : 0;
    const high = (more & 0xf0000) === 0xf0000 ? 1 << ((value >>> 16) % 32) : 0;
    const bsp = (more & 0x700000) === 0x700000 ? 0 : tracked.base & BASE.BSP;
    const low = (page | mode | bsp | reserved) >>> 0;
    this.#put('wrmsr', cpu, MSR.APIC_BASE, low, high);
    if (reserved !== 0 || high !== 0 || mode === BASE.EXTD) return;
    const from = tracked.base & X2APIC;
    if ((from === X2APIC && mode === BASE.ENABLE) || (from === 0 && mode === X2APIC)) return;
    tracked.base = low;
  }

  #deadline(cpu: number, { register, choice, value }: OperationRecipe): void {
    if (register < 60) this.#put('rdmsr', cpu, MSR.TSC_DEADLINE);
    else if (register < 160) this.#write(cpu, REG.LVT_TIMER, 0x40000 | ((choice & 1) << 16) | vectorOf(value));
    else if (choice < 64) this.#put('wrmsr', cpu, MSR.TSC_DEADLINE);
    else if (choice < 160) this.#put('wrmsr', cpu, MSR.TSC_DEADLINE, 1 + (value & 0xffff));
    else this.#put('wrmsr', cpu, MSR.TSC_DEADLINE, value, this.#tsc.high + FAR_AHEAD_HIGH);
    if (register >= 60) this.#breathe(cpu);
  }

  /** Counts down, waits, looks: the interrupt has to be there, once. */
  #shortTimer(cpu: number, { register, choice, value, more }: OperationRecipe): void {
    const divide = [0xb, 0, 1, 2, 3, 8][register % 6] ?? 0xb;
    const divisor = [1, 2, 4, 8, 16, 32][register % 6] ?? 1;
    const periodic = (choice & 1) << 17;
    const masked = (choice & 6) === 6;
    const lvt = periodic | vectorOf(value);
    this.#write(cpu, REG.LVT_TIMER, lvt | (masked ? 1 << 16 : 0));
    this.#write(cpu, REG.TDCR, divide);
    this.#write(cpu, REG.TMICT, 1 + Math.floor((more % SHORT_COUNT) / divisor));
    this.#read(cpu, REG.TMCCT);
    this.#put('wait', cpu, 0, Math.ceil((SHORT_WAIT * this.#tsc.khz) / 1e6));
    if (masked && (choice & 8) !== 0) {
      this.#write(cpu, REG.LVT_TIMER, lvt);
      this.#breathe(cpu);
    }
    if (periodic !== 0) this.#write(cpu, REG.TMICT, 0);
    this.#put('window', cpu, 0, 0, 0, 0);
    this.#write(cpu, REG.TMICT, 0);
  }

  /** An expiry that waits becomes an interrupt when KVM next looks, which is soon but not at once. */
  #breathe(cpu: number): void {
    this.#put('wait', cpu, 0, 1);
  }

  #longTimer(cpu: number, { choice, value }: OperationRecipe): void {
    if (choice < 128) this.#write(cpu, REG.TMICT, choice < 24 ? 0 : LONG_COUNT + (value & 0x3fffffff));
    if (choice >= 96 && choice < 128)
      this.#write(cpu, REG.LVT_TIMER, MASKED | TIMER_MODE.TSC_DEADLINE | vectorOf(value));
    this.#read(cpu, choice < 96 || choice >= 200 ? REG.TMCCT : REG.TMICT);
  }
}

/** BUSY, which is dropped, and reserved bits, which are #GP in x2APIC mode. */
const ODD_ICR_BITS = [12, 12, 12, 13, 16, 17, 20, 25, 31].map((bit) => (1 << bit) >>> 0);
const STARTUP = 6;
const INIT = 5;
/** Delivery modes, as often as they are worth: fixed, lowest, SMI, remote read, NMI, INIT, start-up, ExtINT. */
const MODES = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4, 4, 5, STARTUP, STARTUP, 7];

const readables: readonly number[] = REGISTERS.map(({ offset }) => offset);

const msrOf = (register: number): number => MSR.X2APIC_FIRST + (register >> 4);

const vectorOf = (value: number): number => (value % 16 < 10 ? (VECTORS[value % 16] ?? 0x31) : (value >>> 4) & 0xff);

const isTprWrite = (kind: GuestKind, address: number): boolean =>
  (kind === 'mmio-write' && (address & 0xff0) === REG.TPR) || (kind === 'wrmsr' && address === msrOf(REG.TPR));

/** Writes that would start a short timer, or send who knows what, have operations of their own. */
function isHarmless(offset: number, size: number): boolean {
  const register = offset & 0xff0;
  return !((register === REG.TMICT || register === REG.ICR) && size === 4);
}

function destinationOf(target: Tracked, logical: boolean, noise: number, how: number, index: number): number {
  const x2apic = (target.base & X2APIC) === X2APIC;
  if (how < 0x500) {
    if (!logical) return target.apicId;
    return x2apic ? (((target.apicId >>> 4) << 16) | (1 << (target.apicId & 15))) >>> 0 : 1 << (index & 7);
  }
  if (how < 0x580) return 0xff;
  if (how < 0x600) return 0xffffffff;
  if (how < 0x680) return target.apicId & 0xff;
  if (how < 0x700) return (target.apicId ^ 0x100) >>> 0;
  return noise;
}
