/**
 * Random machines and host operations, as named and weighted choices of fast-check. What is chosen are values, or functions
 * of what is there and of some random bits, so that "the ID of some APIC" means one that there is. The first choice of each
 * list is the plainest, which shrinking goes to.
 */
import fc from 'fast-check';
import { x2apicLogicalId } from '../apic/fields.ts';
import { BASE, DFR, LVT, MODE, REG, TIMER_MODE } from '../apic/index.ts';
import { LOCAL_APIC_BASE } from '../platform.ts';
import { choose, mix, pick, slots, type Weighted, word } from './choices.ts';
import { makeApic, reg } from './page.ts';
import type { ApicSpec, Case, HostOperation, MachineSpec, RegisterValue, RigSpec } from './spec.ts';

const MAX_CPUS = 40;
const MAX_OPERATIONS = 40;
const OTHER_PAGE = 0xfed40000;

const some = fc.nat(MAX_CPUS - 1);
const topByte = (value: number): number => value << 24;

/** Registers to be put into a state. `bits` are random. */
type Registers = (bits: number, more: number) => RegisterValue[];
const nothing: Registers = () => [];

/** One vector in IRR, ISR or TMR. */
const vectorIn = (register: number, bits: number): RegisterValue =>
  reg(register + ((bits >>> 5) & 7) * 16, 1 << (bits & 31));

const DIVIDE_BY_1 = 0xb;
/** What would start a timer, or have KVM watch LINT0 for NMIs. */
const NOT_BY_CHANCE = new Set<number>([REG.TMICT, REG.TDCR, REG.LVT_TIMER, REG.LVT_LINT0, REG.SPIV]);

/** Registers that routing does not look at: a state must carry them, or KVM must not let it. The timer stays off (TMICT 0) but for one. */
const ODDITIES: readonly Weighted<Registers>[] = [
  ...[REG.VERSION, REG.ICR, REG.ICR2, REG.TMCCT, REG.ESR, REG.ICR + 4, REG.LDR, REG.ID].map(
    (register): Weighted<Registers> => [1, (bits) => [reg(register, bits)]],
  ),
  [1, (bits) => [reg(REG.LVT_TIMER, bits & 0x1ffff)]],
  [1, (bits) => [reg(REG.LVT_LINT0, bits & 0x1f8ff)]], // not ExtINT: KVM then watches LINT0 for NMIs
  [1, (bits, more) => (NOT_BY_CHANCE.has((more & 0xff) * 4) ? [] : [reg((more & 0xff) * 4, bits & 0x7fffffff)])],
  [
    1, // a timer that runs, and goes on from where the state says; it does not fire before the case is over
    (bits) => [
      reg(REG.LVT_TIMER, LVT.MASKED | (bits < 0 ? TIMER_MODE.PERIODIC : 0)),
      reg(REG.TDCR, DIVIDE_BY_1),
      reg(REG.TMICT, 0xffffffff),
      reg(REG.TMCCT, 0x70000000 | (bits & 0xfffffff)),
    ],
  ],
];

// Machines

/** What most of a machine's APICs are like. */
interface Flavour {
  readonly mode: fc.Arbitrary<number>;
  /** The logical ID that is an APIC's own, by its index. */
  readonly ownLogicalId: (index: number) => number;
  /** Of 64 APICs so many have it. */
  readonly own: number;
  readonly dfr: number;
  /** Of 16 APICs so many have this DFR, whatever the logical ID. */
  readonly usualDfr: number;
}

const bitOf = (index: number): number => 1 << (index & 7);
const MIXED = { ownLogicalId: bitOf, own: 44, dfr: DFR.FLAT, usualDfr: 13 } as const;
const XAPIC = { mode: choose<number>([63, MODE.XAPIC], [1, MODE.DISABLED]), own: 60, usualDfr: 15 } as const;
const FLAVOURS: readonly Flavour[] = [
  { ...MIXED, mode: choose<number>([7, MODE.XAPIC], [7, MODE.X2APIC], [2, MODE.DISABLED]) },
  { ...MIXED, mode: choose<number>([15, MODE.X2APIC], [1, MODE.XAPIC]) },
  { ...XAPIC, ownLogicalId: (index) => (index > 7 ? 0 : bitOf(index)), dfr: DFR.FLAT },
  { ...XAPIC, ownLogicalId: (index) => ((index >> 2) & 0xf) * 16 + (1 << (index & 3)), dfr: DFR.CLUSTER },
  // x2APIC with some that are still in xAPIC mode: hot-added CPUs
  { ...MIXED, mode: choose<number>([11, MODE.X2APIC], [4, MODE.XAPIC], [1, MODE.DISABLED]) },
];

type ApicMaker = (rig: readonly number[], index: number) => ApicSpec;

const SPIV = choose<(bits: number) => number>([6, () => 0x1ff], [1, () => 0xff], [1, (bits) => bits & 0x1fff]);
const XAPIC_ID = choose<(own: number, rig: readonly number[], bits: number) => number>(
  [24, (own) => own],
  [1, () => 0],
  [1, () => 0xff],
  [6, (_, rig, bits) => pick(rig, bits)],
);
const mayHave = (register: number, shift: number): fc.Arbitrary<Registers> =>
  choose<Registers>([3, nothing], [1, (bits) => [vectorIn(register, bits >>> shift)]]);
const IRR = mayHave(REG.IRR, 0);
const ISR = mayHave(REG.ISR, 8);
const TMR = mayHave(REG.TMR, 16);
const TPR = choose<Registers>([1, nothing], [1, (bits) => [reg(REG.TPR, bits >>> 24)]]);
const ODD_STATE = choose([52, nothing], ...ODDITIES);

function apicMaker({
  mode,
  ownLogicalId,
  own,
  dfr,
  usualDfr,
}: Flavour): fc.Arbitrary<readonly [slot: number, ApicMaker]> {
  const logicalId = choose<(index: number, bits: number) => number>(
    [own, ownLogicalId],
    [(64 - own) / 4, () => 0],
    [(64 - own) / 4, (_, bits) => bitOf(bits)],
    [(64 - own) / 2, (_, bits) => bits & 0xff],
  );
  const format = choose<(bits: number) => number>(
    [usualDfr, () => dfr],
    [usualDfr > 13 ? 0 : 1, () => DFR.CLUSTER],
    [usualDfr > 13 ? 0 : 1, (bits) => (bits & 0xf0000000) | DFR.CLUSTER],
    [1, (bits) => bits],
  );
  const page = choose([31, LOCAL_APIC_BASE], [1, OTHER_PAGE]);
  const bsp = choose([6, 0], [1, BASE.BSP]);
  // Whoever has no logical ID may well be of another mind about the model.
  const formatWithoutId = choose<number | undefined>([1, undefined], [1, dfr === DFR.FLAT ? DFR.CLUSTER : DFR.FLAT]);
  const parts = fc.tuple(mode, page, bsp, SPIV, XAPIC_ID, logicalId, format, formatWithoutId, word, word);
  return fc.tuple(some, parts, TPR, IRR, ISR, TMR, ODD_STATE).map(([slot, parts, ...rest]) => [
    slot,
    (rig, index) => {
      const [mode, page, bsp, spiv, xapicId, ownId, format, formatWithoutId, bits, more] = parts;
      const apicId = pick(rig, slot);
      const logicalId = ownId(index, bits);
      return makeApic({
        apicId,
        mode,
        page,
        bsp,
        logicalId,
        spiv: spiv(bits >>> 8),
        xapicId: xapicId(apicId, rig, more),
        dfr: (logicalId === 0 ? formatWithoutId : undefined) ?? format(bits),
        more: rest.flatMap((registers) => registers(more, bits)),
      });
    },
  ]);
}

// Operations

type OperationMaker = (machine: MachineSpec, calm: boolean) => HostOperation;
type Target = (apic: ApicSpec, machine: MachineSpec, bits: number) => number;

const registerOf = (apic: ApicSpec, register: number): number =>
  apic.registers.find(([offset]) => offset === register)?.[1] ?? 0;
const isX2apic = ({ baseLow }: ApicSpec): boolean => (baseLow & BASE.EXTD) !== 0;
const logicalIdOf = (apic: ApicSpec): number => registerOf(apic, REG.LDR) >>> 24;

const PHYSICAL: readonly Weighted<Target>[] = [
  [12, ({ apicId }) => apicId],
  [6, ({ apicId }) => apicId & 0xff],
  [4, () => 0xff],
  [1, () => 0xffffffff],
  [1, (_, { rig }, bits) => pick(rig, bits)],
  [2, ({ apicId }) => apicId ^ 0x100], // an alias
  [2, (apic) => registerOf(apic, REG.ID) >>> 24],
  [2, (_, __, bits) => bits & 0xfff],
  [2, (_, __, bits) => bits & 0x7fffffff],
];
const LOGICAL: readonly Weighted<Target>[] = [
  [8, (apic) => (isX2apic(apic) ? x2apicLogicalId(apic.apicId) : logicalIdOf(apic))],
  [
    8,
    (apic, _, bits) =>
      isX2apic(apic) ? ((apic.apicId >>> 4) << 16) + (bits & 0xffff) : logicalIdOf(apic) | (bits & 0xff),
  ],
  [4, (_, __, bits) => bits & 0xff],
  [3, (_, { apics }, bits) => (((bits >>> 8) % Math.max(1, apics.length >> 2)) << 4) | (bits & 7)],
  [2, () => 0xff],
  [1, () => 0xffffffff],
  [2, (apic, _, bits) => logicalIdOf(apic) + (bits & 0xf00)],
  [4, (_, __, bits) => bits & 0x7fffffff],
];
/** With bit 2 of an MSI's address. */
const DESTINATION = choose<{ readonly target: Target; readonly logical: 0 | 4 }>(
  ...PHYSICAL.map(([weight, target]) => [weight, { target, logical: 0 }] as const),
  ...LOGICAL.map(([weight, target]) => [weight, { target, logical: 4 }] as const),
);
const VECTOR = choose<(bits: number) => number>(
  ...[0x31, 0x30, 0x45, 0x80, 0xfe, 0x20, 0x10, 0x0f].map((vector) => [1, () => vector] as const),
  [8, (bits) => bits >>> 24],
);
// What the others leave behind takes long to look at and to put back: calm cases have fixed and lowest priority alone.
const DELIVERY_MODE = choose([5, 0], [5, 1], [1, 2], [1, 3], [1, 4], [1, 5], [1, 6], [1, 7]);
/** Off the beaten track: bits that KVM does not look at, or (bits 7:0 with the gate on) refuses. */
const ADDRESS_HIGH = choose<(upper: number, gate: boolean, bits: number) => number>(
  [250, (upper) => upper],
  [4, (upper, gate, bits) => (gate ? upper | (bits & 0xff) : upper)],
  [1, (_, __, bits) => bits & 0x7fffffff],
);
const HINT = choose([3, 0], [1, 8]);
const LEVEL = choose([3, 0], [1, 0x8000]);

const msi: fc.Arbitrary<OperationMaker> = fc
  .tuple(some, DESTINATION, DELIVERY_MODE, VECTOR, HINT, LEVEL, ADDRESS_HIGH, word)
  .map(([cpu, { target, logical }, mode, vector, hint, level, high, bits]) => (machine, calm) => {
    const destination = target(pick(machine.apics, cpu), machine, bits) >>> 0;
    const upper = (destination & 0xffffff00) >>> 0;
    return {
      kind: 'msi',
      addressLow: LOCAL_APIC_BASE + ((destination & 0xff) << 12) + hint + logical,
      addressHigh: high(upper, machine.x2apicFormat, bits >>> 8) >>> 0,
      data: vector(bits) | ((calm ? mode & 1 : mode) << 8) | level,
    };
  });

const look = (kind: 'settle' | 'events'): fc.Arbitrary<OperationMaker> =>
  some.map((n) => ({ apics }: MachineSpec) => ({ kind, cpu: n % apics.length }));

type BaseValue = (bsp: number, bits: number, more: number) => readonly [low: number, high: number];
const BASE_VALUE = choose<BaseValue>(
  [4, (bsp) => [LOCAL_APIC_BASE | BASE.ENABLE | bsp, 0]],
  [5, (bsp) => [LOCAL_APIC_BASE | MODE.X2APIC | bsp, 0]],
  [4, (bsp) => [LOCAL_APIC_BASE | bsp, 0]],
  [1, () => [LOCAL_APIC_BASE | MODE.INVALID, 0]], // invalid
  [1, (_, bits) => [LOCAL_APIC_BASE | BASE.ENABLE | (1 << ((bits >>> 0) % 12)), 0]],
  [1, (_, bits, more) => [(bits & 0x7ffff000) | BASE.ENABLE, more < 0 ? 0 : 1 << (more % 24)]],
);
const base: fc.Arbitrary<OperationMaker> = fc
  .tuple(some, BASE_VALUE, word, word)
  .map(([cpu, value, bits, more]) => ({ apics }) => {
    const [low, high] = value(pick(apics, cpu).baseLow & BASE.BSP, bits, more);
    return { kind: 'base', cpu: cpu % apics.length, low: low >>> 0, high };
  });

type Change = (bits: number, more: number, apic: ApicSpec, machine: MachineSpec) => RegisterValue[];
const bank = (register: number, more: number): number => register + (more & 7) * 16;
const CHANGE = choose<Change>(
  [16, () => [reg(REG.SPIV, 0x1ff)]],
  [16, () => [reg(REG.SPIV, 0xff)]],
  [16, (bits) => [reg(REG.SPIV, bits & 0x1fff)]],
  [32, (bits, _, __, { apics }) => [reg(REG.ID, topByte(pick(apics, bits).apicId))]],
  [16, (bits) => [reg(REG.LDR, topByte(bitOf(bits)))]],
  [16, (bits) => [reg(REG.LDR, topByte((bits & 0xf0) + (1 << (bits & 3))))]],
  [16, (bits) => [reg(REG.LDR, bits)]],
  [8, () => [reg(REG.DFR, DFR.FLAT)]],
  [8, () => [reg(REG.DFR, DFR.CLUSTER)]],
  [16, (bits) => [reg(REG.DFR, bits)]],
  [16, (bits) => [reg(REG.TPR, bits & 0xff)]],
  [16, (bits, more) => [reg(bank(REG.ISR, more), bits & 0x7fffffff)]],
  [16, (bits, more) => [reg(bank(REG.IRR, more), bits & 0x7fffff00)]],
  [16, (bits, more) => [reg(bank(REG.TMR, more), bits & 0x7fffffff)]],
  [16, (bits, _, { apicId }) => [reg(REG.ID, apicId + (bits & 1))]],
  [4, nothing],
  ...ODDITIES,
);
const state: fc.Arbitrary<OperationMaker> = fc
  .tuple(some, CHANGE, word, word)
  .map(([cpu, change, bits, more]) => (machine) => {
    const registers = change(bits, more, pick(machine.apics, cpu), machine);
    return { kind: 'state', cpu: cpu % machine.apics.length, registers };
  });

const OPERATION = mix<OperationMaker>([44, msi], [4, look('settle')], [1, look('events')], [5, base], [10, state]);

/** Machines on these rigs, and what the host does to them. */
export function cases(rigs: readonly RigSpec[]): fc.Arbitrary<Case<HostOperation>> {
  const machines = FLAVOURS.map((flavour) => {
    const apic = apicMaker(flavour);
    return [1, mix([4, slots(apic, 2, 10)], [1, slots(apic, 1, MAX_CPUS)])] as const;
  });
  const parts = {
    rig: fc.constantFrom(...rigs),
    /** Fixed and lowest priority alone. */
    calm: choose([1, false], [2, true]),
    apics: mix(...machines),
    operations: fc.array(OPERATION, { minLength: 1, maxLength: MAX_OPERATIONS, size: 'max' }),
  };
  return fc.record(parts).map(({ rig, calm, apics, operations }) => {
    const ordered = apics.toSorted(([a], [b]) => a - b);
    const machine = { ...rig, bootstrap: 0, apics: ordered.map(([, make], i) => make(rig.rig, i)) };
    return { machine, operations: operations.map((make) => make(machine, calm)) };
  });
}
