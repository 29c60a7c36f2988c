/**
 * What a guest may do, as named and weighted choices of fast-check: each is a step, which adds one operation or a few to a
 * list (guest-list.ts). No timer runs out at a time that nobody knows. The first choice of each list is the plainest.
 */
import fc from 'fast-check';
import { x2apicLogicalId } from '../../apic/fields.ts';
import {
  BASE,
  COMMAND,
  DELIVERY,
  DFR,
  ICR,
  LVT,
  LVT_OFFSETS,
  MODE,
  MSR,
  PAGE_BYTES,
  REG,
  REGISTERS,
  TIMER_MODE,
} from '../../apic/index.ts';
import { LOCAL_APIC_BASE } from '../../platform.ts';
import { choose, mix, type Weighted, word } from '../choices.ts';
import { isX2apic, pageOf, type Step, type TrackedCpu } from './guest-list.ts';

export const OTHER_PAGES = [0xfed40000, 0xfee01000, 0xd0000000, 0xfff00000];
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

const byte = fc.nat(0xff);
const zero = fc.constant(0);
/** Each of them as often as the others. */
const among = <T>(list: readonly T[]): fc.Arbitrary<T> => fc.constantFrom(...list);
const VECTOR = mix([10, among([0x31, 0x32, 0x41, 0x45, 0x80, 0x81, 0xfe, 0x20, 0x10, 0x0f])], [6, byte]);
const REGISTER = among(REGISTERS.map(({ offset }) => offset));
const LVT_BUT_TIMER = among(LVT_OFFSETS.filter((offset) => offset !== REG.LVT_TIMER));
const SPIV_VALUE = mix([2, fc.constant(0x1ff)], [1, fc.constant(0xff)], [1, fc.nat(0x1fff)]);
/** The upper half of what is written to an x2APIC register. */
const HIGH = mix([15, zero], [1, fc.nat(0x7ffffff)]);

const read =
  (register: number): Step =>
  (list, cpu) =>
    list.read(cpu, register);
const window = choose([200, 0], [56, 1]).map<Step>((size) => (list, cpu) => list.put('window', cpu, { size }));

// Writes of registers

const write = (register: number | fc.Arbitrary<number>, value: fc.Arbitrary<number>, high = HIGH): fc.Arbitrary<Step> =>
  fc.tuple(typeof register === 'number' ? fc.constant(register) : register, value, high).map(
    ([register, value, high]) =>
      (list, cpu) =>
        list.write(cpu, register, value, high),
  );

const writeId = fc.tuple(fc.nat(7), HIGH).map<Step>(
  ([n, high]) =>
    (list, cpu) =>
      list.write(cpu, REG.ID, list.cpu(n).apicId << 24, high),
);

/** A deadline that has passed may have waited for its unmasking. */
const writeTimerLvt = fc
  .tuple(VECTOR, mix([3, word.map((bits) => bits & 0x70000)], [1, word.map((bits) => bits & ~0xff)]), HIGH)
  .map<Step>(([vector, rest, high]) => (list, cpu) => {
    list.write(cpu, REG.LVT_TIMER, rest | vector, high);
    if ((rest & TIMER_MODE.MASK) === TIMER_MODE.TSC_DEADLINE) list.breathe(cpu);
  });

const writeSome = mix(
  [2, write(REG.TPR, mix([4, byte], [1, word]))],
  [1, write(REG.SPIV, SPIV_VALUE)],
  [1, write(REG.LDR, mix([1, fc.nat(7).map((bit) => 1 << (24 + bit))], [1, word]))],
  [1, write(REG.DFR, mix([2, fc.constant(DFR.FLAT)], [2, fc.constant(DFR.CLUSTER)], [1, word]))],
  [1, writeId],
  [3, write(LVT_BUT_TIMER, mix([3, fc.nat(0x1ffff)], [1, word]))],
  [1, writeTimerLvt],
  [1, write(REG.ESR, mix([1, zero], [1, word]))],
  [1, write(REG.TDCR, mix([4, fc.nat(0xf)], [1, word]))],
  [1, write(REG.SELF_IPI, mix([2, VECTOR], [1, word]))],
  [1, write(REG.ICR2, mix([4, byte.map((id) => id << 24)], [1, word]))],
  [1, write(REG.EOI, zero)],
  // What sends, or counts down, has steps of its own.
  [
    1,
    write(
      REGISTER.map((each) => (each === REG.ICR || each === REG.TMICT ? REG.ID : each)),
      word,
    ),
  ],
);

// IPIs

/** Fixed, lowest, SMI, remote read, NMI, INIT, start-up, ExtINT, as often as they are worth. */
const DELIVERY_MODE = choose([8, 0], [2, 1], [1, 2], [1, 3], [2, 4], [1, 5], [2, 6], [1, 7]);
const SHORTHAND = choose([15, 0], [4, 1], [3, 2], [3, 3]);
/** BUSY, which is dropped, and reserved bits, which are #GP in x2APIC mode. */
const ODD_BITS = choose([63, 0], [3, ICR.BUSY], ...[13, 16, 17, 20, 25, 31].map((bit) => [1, 1 << bit] as const));

type Destination = (target: TrackedCpu, logical: boolean, noise: number) => number;
const ownId: Destination = (target, logical) => {
  if (!logical) return target.apicId;
  return isX2apic(target) ? x2apicLogicalId(target.apicId) : 1 << (target.index & 7);
};
const DESTINATION = choose<Destination>(
  [10, ownId],
  [1, () => 0xff],
  [1, () => 0xffffffff],
  [1, ({ apicId }) => apicId & 0xff],
  [1, ({ apicId }) => apicId ^ 0x100],
  [2, (_, __, noise) => noise & 0xff],
);

const ipi = fc
  .record({
    mode: DELIVERY_MODE,
    vector: VECTOR,
    shorthand: SHORTHAND,
    logical: choose([3, 0], [1, COMMAND.LOGICAL]),
    trigger: choose([13, COMMAND.ASSERT], [1, 0], [1, COMMAND.LEVEL | COMMAND.ASSERT], [1, COMMAND.LEVEL]),
    odd: ODD_BITS,
    target: fc.nat(7),
    destination: DESTINATION,
    noise: word,
    icr2: choose([3, 0], [1, 0xffffff]),
    unattended: fc.boolean(),
  })
  .map<Step>((made) => (list, cpu) => {
    const { mode, vector, shorthand, logical, noise } = made;
    const low = vector | (mode << 8) | logical | made.trigger | (shorthand << 18) | made.odd;
    const to = made.destination(list.cpu(made.target), logical !== 0, noise);
    if (!isX2apic(cpu) && shorthand === 0) list.write(cpu, REG.ICR2, (to << 24) | (noise & made.icr2));
    const pends = mode === DELIVERY.STARTUP && made.unattended && shorthand === 0;
    list.write(cpu, REG.ICR, low, to, { unattended: pends });
    // A SIPI that is still pending when INIT comes.
    if (pends) list.write(cpu, REG.ICR, (low & ~0x700) | (DELIVERY.INIT << 8), to);
  });

// The odd ones: all sizes, all alignments, all offsets, also beyond the registers; whatever mode it is in

/** Writes that would start a short timer, or send who knows what, have steps of their own. */
const isHarmless = (offset: number, size: number): boolean =>
  size !== 4 || ((offset & 0xff0) !== REG.TMICT && (offset & 0xff0) !== REG.ICR);

const OFFSET = mix([1, fc.tuple(fc.nat(0x3f), fc.nat(15)).map(([slot, byte]) => slot * 16 + byte)], [1, fc.nat(0xfff)]);
const oddMmio = fc
  .tuple(fc.boolean(), among([1, 2, 4, 8]), choose([7, false], [1, true]), OFFSET, word, word)
  .map<Step>(([writes, size, elsewhere, offset, low, high]) => (list, cpu) => {
    const address = (elsewhere ? LOCAL_APIC_BASE : pageOf(cpu)) + Math.min(offset, PAGE_BYTES - size);
    if (!writes) list.put('mmio-read', cpu, { address, size });
    else if (isHarmless(offset, size)) list.put('mmio-write', cpu, { address, size, low, high });
  });

const oddMsr = fc
  .tuple(fc.boolean(), mix([1, fc.nat(0x3f)], [1, byte]), mix([1, zero], [1, word]), mix([7, zero], [1, word]))
  .map<Step>(([writes, index, low, high]) => (list, cpu) => {
    const address = MSR.X2APIC_FIRST + index;
    if (!writes) list.put('rdmsr', cpu, { address });
    else if (isHarmless(index << 4, 4)) list.put('wrmsr', cpu, { address, low, high });
  });

// CR8, IA32_APIC_BASE

const cr8 = mix<{ readonly low: number; readonly high: number } | undefined>(
  [100, fc.constant(undefined)],
  [130, fc.nat(0xf).map((low) => ({ low, high: 0 }))],
  [15, fc.nat(0x1f).map((low) => ({ low, high: 0 }))],
  [11, fc.tuple(fc.nat(0x1f), word).map(([low, high]) => ({ low, high }))],
).map<Step>((value) => (list, cpu) => {
  if (value === undefined || !list.limits.cr8) list.put('read-cr8', cpu);
  else list.put('write-cr8', cpu, value);
});

const RESERVED_BITS = [0, 1, 2, 3, 4, 5, 6, 7, 9].map((bit): Weighted<number> => [1, 1 << bit]);
const writeBase = fc
  .record({
    mode: choose<number>([2, MODE.XAPIC], [2, MODE.X2APIC], [1, MODE.DISABLED], [1, MODE.INVALID]),
    page: mix<number | undefined>([15, fc.constant(undefined)], [1, among(OTHER_PAGES)]),
    reserved: choose([135, 0], ...RESERVED_BITS),
    high: mix([15, zero], [1, fc.nat(31).map((bit) => 1 << bit)]),
    bsp: choose([7, BASE.BSP], [1, 0]),
  })
  .map<Step>(({ mode, page, reserved, high, bsp }) => (list, cpu) => {
    const low = ((page ?? pageOf(cpu)) | mode | (cpu.base & bsp) | reserved) >>> 0;
    list.put('wrmsr', cpu, { address: MSR.APIC_BASE, low, high });
    const from = cpu.base & MODE.X2APIC;
    const refused =
      reserved !== 0 ||
      high !== 0 ||
      mode === MODE.INVALID ||
      (from === MODE.X2APIC && mode === MODE.XAPIC) ||
      (from === MODE.DISABLED && mode === MODE.X2APIC);
    if (refused) return;
    cpu.base = low;
    // KVM looks at an IRR from before only when something else makes it (README.md): a TPR that falls does.
    if (from === MODE.DISABLED && mode !== MODE.DISABLED) for (const tpr of [0xf0, 0]) list.write(cpu, REG.TPR, tpr);
  });
const readMsr = (address: number): fc.Arbitrary<Step> =>
  fc.constant((list, cpu) => list.put('rdmsr', cpu, { address }));

// Timers

type Deadline = (value: number, now: number) => { readonly low: number; readonly high?: number };
const DEADLINE = choose<Deadline>(
  [4, () => ({ low: 0 })],
  [6, (value) => ({ low: 1 + (value & 0xffff) })],
  [6, (low, now) => ({ low: low & 0x7fffffff, high: now + FAR_AHEAD_HIGH })],
);
const writeDeadline = fc.tuple(DEADLINE, word).map<Step>(([deadline, value]) => (list, cpu) => {
  list.put('wrmsr', cpu, { address: MSR.TSC_DEADLINE, ...deadline(value, list.tsc.high) });
  list.breathe(cpu);
});
const deadlineMode = fc.tuple(VECTOR, choose([1, 0], [1, LVT.MASKED])).map<Step>(([vector, masked]) => (list, cpu) => {
  list.write(cpu, REG.LVT_TIMER, TIMER_MODE.TSC_DEADLINE | masked | vector);
  list.breathe(cpu);
});

/** TDCR, by divisor. */
const DIVIDE = { 1: 0xb, 2: 0, 4: 1, 8: 2, 16: 3, 32: 8 } as const;
/** Counts down, waits, looks: the interrupt has to be there, once. */
const shortTimer = fc
  .record({
    divisor: among([1, 2, 4, 8, 16, 32] as const),
    periodic: choose([1, 0], [1, TIMER_MODE.PERIODIC]),
    vector: VECTOR,
    count: fc.nat(SHORT_COUNT - 1),
    masked: choose([6, 'no'], [1, 'throughout'], [1, 'until it has expired']),
  })
  .map<Step>(({ divisor, periodic, vector, count, masked }) => (list, cpu) => {
    list.write(cpu, REG.LVT_TIMER, periodic | vector | (masked === 'no' ? 0 : LVT.MASKED));
    list.write(cpu, REG.TDCR, DIVIDE[divisor]);
    list.write(cpu, REG.TMICT, 1 + Math.floor(count / divisor));
    list.read(cpu, REG.TMCCT);
    list.put('wait', cpu, { low: Math.ceil((SHORT_WAIT * list.tsc.khz) / 1e6) });
    if (masked === 'until it has expired') {
      list.write(cpu, REG.LVT_TIMER, periodic | vector);
      list.breathe(cpu);
    }
    if (periodic !== 0) list.write(cpu, REG.TMICT, 0);
    list.put('window', cpu, { size: 0 });
    list.write(cpu, REG.TMICT, 0);
  });

const LONG = fc.nat(0x3fffffff).map((more) => LONG_COUNT + more);
const startCount = fc.tuple(mix([18, LONG], [6, zero]), choose([3, false], [1, true]), VECTOR);
/** Starts a count, stops it, or looks at one. */
const longTimer = mix<Step>(
  [
    4,
    startCount.map(([count, leaves, vector]) => (list, cpu) => {
      list.write(cpu, REG.TMICT, count);
      if (leaves) list.write(cpu, REG.LVT_TIMER, LVT.MASKED | TIMER_MODE.TSC_DEADLINE | vector);
      list.read(cpu, leaves ? REG.TMICT : REG.TMCCT);
    }),
  ],
  [4, choose([1, read(REG.TMICT)], [1, read(REG.TMCCT)])],
);

const STEP: fc.Arbitrary<Step> = mix(
  [16, REGISTER.map(read)],
  [22, writeSome],
  [28, ipi],
  [16, window],
  [6, write(REG.EOI, mix([255, zero], [1, word]), zero)],
  [6, cr8],
  [6, oddMmio],
  [7, oddMsr],
  [7, mix([1, readMsr(MSR.APIC_BASE)], [4, writeBase])],
  [5, mix([6, readMsr(MSR.TSC_DEADLINE)], [10, deadlineMode], [10, writeDeadline])],
  [1, shortTimer], // it takes a millisecond and a half
  [3, longTimer],
  [5, write(REG.SPIV, SPIV_VALUE, zero)],
);

/** Lists of steps, each of the CPU that a number means. */
export const STEPS = fc.array(fc.tuple(fc.nat(4), STEP), { minLength: 1, maxLength: 70, size: 'max' });
