/**
 * Random machines and host operations, as named and weighted choices of fast-check. What is chosen are makers: small functions
 * that a machine is given to, so that "the ID of some APIC" means one that is there; `resolve` calls them. The first choice
 * of each list is the plainest, which shrinking goes to.
 */
import fc from 'fast-check';
import { BASE, LVT, REG, TIMER_MODE } from '../apic/index.ts';
import { choose, mix } from './choices.ts';
import type { RigSpec } from './rigs.ts';
import type { ApicSpec, Case, HostOperation, MachineSpec, RegisterValue } from './spec.ts';

const MAX_CPUS = 40;
const MAX_OPERATIONS = 40;
const X2APIC = BASE.ENABLE | BASE.EXTD;
const OFF = 0;
const PAGE = 0xfee00000;
const OTHER_PAGE = 0xfed40000;
const DFR_FLAT = 0xffffffff;
const DFR_CLUSTER = 0x0fffffff;

const word = fc.nat(0x7fffffff);
const byte = fc.nat(0xff);
const topByte = (value: number): number => (value & 0xff) * 2 ** 24;
const reg = (register: number, value: number): RegisterValue => [register, value >>> 0];

// Machines

/** What most of a machine's APICs are like. */
interface Flavour {
  readonly mode: fc.Arbitrary<number>;
  /** The logical ID that is an APIC's own, by its index. */
  readonly ownLogicalId: (index: number) => number;
  /** Of 256 APICs so many have it. */
  readonly own: number;
  readonly dfr: number;
  /** Of 16 APICs so many have this DFR, whatever the logical ID. */
  readonly usualDfr: number;
}

const bitOf = (index: number): number => 1 << (index & 7);
const MIXED = { ownLogicalId: bitOf, own: 172, dfr: DFR_FLAT, usualDfr: 13 } as const;
const FLAVOURS: readonly Flavour[] = [
  { ...MIXED, mode: choose([7, BASE.ENABLE], [7, X2APIC], [2, OFF]) },
  { ...MIXED, mode: choose([15, X2APIC], [1, BASE.ENABLE]) },
  {
    mode: choose([63, BASE.ENABLE], [1, OFF]),
    ownLogicalId: (index) => (index > 7 ? 0 : bitOf(index)),
    ...{ own: 248, dfr: DFR_FLAT, usualDfr: 15 },
  },
  {
    mode: choose([63, BASE.ENABLE], [1, OFF]),
    ownLogicalId: (index) => ((index >> 2) & 0xf) * 16 + (1 << (index & 3)),
    ...{ own: 248, dfr: DFR_CLUSTER, usualDfr: 15 },
  },
  // x2APIC with some that are still in xAPIC mode: hot-added CPUs
  { ...MIXED, mode: choose([11, X2APIC], [4, BASE.ENABLE], [1, OFF]) },
];

type ApicMaker = (rig: readonly number[], index: number) => ApicSpec;

function apicMaker({ mode, ownLogicalId, own, dfr, usualDfr }: Flavour): fc.Arbitrary<[slot: number, ApicMaker]> {
  const other = dfr === DFR_FLAT ? DFR_CLUSTER : DFR_FLAT;
  const parts = fc.record({
    slot: fc.nat(MAX_CPUS - 1),
    mode,
    page: choose([31, PAGE], [1, OTHER_PAGE]),
    bsp: choose([6, 0], [1, BASE.BSP]),
    spiv: mix([6, fc.constant(0x1ff)], [1, fc.constant(0xff)], [1, fc.nat(0x1fff)]),
    ownId: mix<(own: number, rig: readonly number[]) => number>(
      [24, fc.constant((id) => id)],
      [1, fc.constant(() => 0)],
      [1, fc.constant(() => 0xff)],
      [6, fc.nat(MAX_CPUS - 1).map((n) => (_: number, rig: readonly number[]) => rig[n % rig.length] ?? 0)],
    ),
    logicalId: mix<(index: number) => number>(
      [own, fc.constant(ownLogicalId)],
      [(256 - own) / 4, fc.constant(() => 0)],
      [(256 - own) / 4, fc.nat(7).map((bit) => () => 1 << bit)],
      [(256 - own) / 2, byte.map((any) => () => any)],
    ),
    dfr: mix(
      [usualDfr, fc.constant(dfr)],
      [usualDfr > 13 ? 0 : 1, fc.constant(DFR_CLUSTER)],
      [usualDfr > 13 ? 0 : 1, fc.nat(15).map((model) => ((model << 28) | DFR_CLUSTER) >>> 0)],
      [1, word],
    ),
    // Whoever has no logical ID may well be of another mind about the model.
    dissents: fc.boolean(),
    rest: fc.tuple(
      mix<RegisterValue[]>([1, fc.constant([])], [1, byte.map((tpr) => [reg(REG.TPR, tpr)])]),
      vectorIn(REG.IRR),
      vectorIn(REG.ISR),
      vectorIn(REG.TMR),
      mix([52, fc.constant<RegisterValue[]>([])], [12, ODDITIES]),
    ),
  });
  return parts.map(({ slot, ...made }) => [
    slot,
    (rig, index) => {
      const apicId = rig[slot % rig.length] ?? 0;
      const logicalId = made.logicalId(index);
      const registers: RegisterValue[] = [
        reg(REG.SPIV, made.spiv),
        ...(made.mode === X2APIC ? [] : [reg(REG.ID, topByte(made.ownId(apicId, rig)))]),
        reg(REG.LDR, topByte(logicalId)),
        reg(REG.DFR, logicalId === 0 && made.dissents ? other : made.dfr),
        ...made.rest.flat(),
      ];
      return { apicId, baseLow: (made.page | made.mode | made.bsp) >>> 0, baseHigh: 0, registers };
    },
  ]);
}

/** One vector in IRR, ISR or TMR of some. */
const vectorIn = (register: number): fc.Arbitrary<RegisterValue[]> =>
  mix<RegisterValue[]>(
    [3, fc.constant([])],
    [1, byte.map((vector) => [reg(register + (vector >> 5) * 16, 1 << (vector & 31))])],
  );

const DIVIDE_BY_1 = 0xb;
/** What would start a timer, or have KVM watch LINT0 for NMIs. */
const NOT_BY_CHANCE = new Set<number>([REG.TMICT, REG.TDCR, REG.LVT_TIMER, REG.LVT_LINT0, REG.SPIV]);

const full = (register: number): fc.Arbitrary<RegisterValue[]> =>
  fc.tuple(word, fc.boolean()).map(([value, top]) => [reg(register, top ? ~value : value)]);

/** Registers that routing does not look at: a state must carry them, or KVM must not let it. The timer stays off (TMICT 0) but for one. */
const ODDITIES: fc.Arbitrary<RegisterValue[]> = mix<RegisterValue[]>(
  ...[REG.VERSION, REG.ICR, REG.ICR2, REG.TMCCT, REG.ESR, REG.ICR + 4, REG.LDR, REG.ID].map(
    (register) => [1, full(register)] as const,
  ),
  [1, fc.nat(0x1ffff).map((lvt) => [reg(REG.LVT_TIMER, lvt)])],
  [1, word.map((lvt) => [reg(REG.LVT_LINT0, lvt & 0x1f8ff)])], // not ExtINT: KVM then watches LINT0 for NMIs
  [1, fc.tuple(fc.nat(0xff), word).map(([n, value]) => (NOT_BY_CHANCE.has(n * 4) ? [] : [reg(n * 4, value)]))],
  [
    1, // a timer that runs, and goes on from where the state says; it does not fire before the case is over
    fc
      .tuple(fc.boolean(), fc.nat(0xfffffff))
      .map(([periodic, count]) => [
        reg(REG.LVT_TIMER, LVT.MASKED | (periodic ? TIMER_MODE.PERIODIC : 0)),
        reg(REG.TDCR, DIVIDE_BY_1),
        reg(REG.TMICT, 0xffffffff),
        reg(REG.TMCCT, 0x70000000 | count),
      ]),
  ],
);

// Operations

type OperationMaker = (machine: MachineSpec, calm: boolean) => HostOperation;

const pick = <T>(list: readonly T[], n: number): T => {
  const found = list[n % list.length];
  if (found === undefined) throw new RangeError('a machine without APICs');
  return found;
};
const some = fc.nat(MAX_CPUS - 1);
const registerOf = (apic: ApicSpec, register: number): number =>
  apic.registers.find(([offset]) => offset === register)?.[1] ?? 0;

type Target = (apic: ApicSpec, machine: MachineSpec) => number;

const PHYSICAL: fc.Arbitrary<Target> = mix<Target>(
  [96, fc.constant(({ apicId }) => apicId)],
  [48, fc.constant(({ apicId }) => apicId & 0xff)],
  [32, fc.constant(() => 0xff)],
  [8, fc.constant(() => 0xffffffff)],
  [
    8,
    some.map(
      (n) =>
        (_: ApicSpec, { rig }: MachineSpec) =>
          pick(rig, n),
    ),
  ],
  [16, fc.constant(({ apicId }) => apicId ^ 0x100)], // an alias
  [16, fc.constant((apic) => registerOf(apic, REG.ID) >>> 24)],
  [16, fc.nat(0xfff).map((any) => () => any)],
  [16, word.map((any) => () => any)],
);

const isX2apic = ({ baseLow }: ApicSpec): boolean => (baseLow & BASE.EXTD) !== 0;
const logicalIdOf = (apic: ApicSpec): number => registerOf(apic, REG.LDR) >>> 24;
const clusterOf = ({ apicId }: ApicSpec): number => (apicId >>> 4) << 16;

const LOGICAL: fc.Arbitrary<Target> = mix<Target>(
  [64, fc.constant((apic) => (isX2apic(apic) ? clusterOf(apic) + (1 << (apic.apicId & 15)) : logicalIdOf(apic)))],
  [
    64,
    word.map(
      (more) => (apic: ApicSpec) =>
        isX2apic(apic) ? clusterOf(apic) + (more & 0xffff) : logicalIdOf(apic) | (more & 0xff),
    ),
  ],
  [32, byte.map((any) => () => any)],
  [
    24,
    fc.tuple(word, fc.nat(7)).map(
      ([cluster, members]) =>
        (_: ApicSpec, { apics }: MachineSpec) =>
          ((cluster % Math.max(1, apics.length >> 2)) << 4) | members,
    ),
  ],
  [16, fc.constant(() => 0xff)],
  [8, fc.constant(() => 0xffffffff)],
  [16, fc.nat(0xf).map((high) => (apic: ApicSpec) => logicalIdOf(apic) + (high << 8))],
  [32, word.map((any) => () => any)],
);

const VECTOR = mix(
  [1, choose(...[0x31, 0x30, 0x45, 0x80, 0xfe, 0x20, 0x10, 0x0f].map((each) => [1, each] as const))],
  [1, byte],
);

/** Off the beaten track: bits that KVM does not look at, or (bits 7:0 with the gate on) refuses. */
const ADDRESS_HIGH = mix<(upper: number, gate: boolean) => number>(
  [250, fc.constant((upper) => upper)],
  [4, byte.map((low) => (upper: number, gate: boolean) => (gate ? upper | low : upper))],
  [1, word.map((any) => () => any)],
);

const msi: fc.Arbitrary<OperationMaker> = fc
  .record({
    cpu: some,
    to: mix<{ readonly logical: boolean; readonly target: Target }>(
      [1, PHYSICAL.map((target) => ({ logical: false, target }))],
      [1, LOGICAL.map((target) => ({ logical: true, target }))],
    ),
    // What the others leave behind takes long to look at and to put back: calm cases have fixed and lowest priority alone.
    mode: mix<(calm: boolean) => number>(
      [5, fc.constant(() => 0)],
      [4, fc.constant(() => 1)],
      [7, fc.integer({ min: 1, max: 7 }).map((mode) => (calm: boolean) => (calm ? mode & 1 : mode))],
    ),
    vector: VECTOR,
    hint: choose([3, 0], [1, 8]),
    level: choose([3, 0], [1, 0x8000]),
    high: ADDRESS_HIGH,
  })
  .map(({ cpu, to, mode, vector, hint, level, high }) => (machine, calm) => {
    const destination = to.target(pick(machine.apics, cpu), machine) >>> 0;
    const upper = (destination & 0xffffff00) >>> 0;
    return {
      kind: 'msi',
      addressLow: PAGE + ((destination & 0xff) << 12) + hint + (to.logical ? 4 : 0),
      addressHigh: high(upper, machine.x2apicFormat) >>> 0,
      data: vector | (mode(calm) << 8) | level,
    };
  });

const look = (kind: 'settle' | 'events'): fc.Arbitrary<OperationMaker> =>
  some.map((n) => ({ apics }: MachineSpec) => ({ kind, cpu: n % apics.length }));

const base: fc.Arbitrary<OperationMaker> = fc
  .record({
    cpu: some,
    value: mix<(bsp: number) => readonly [low: number, high: number]>(
      [
        13,
        choose([1, BASE.ENABLE], [1, X2APIC], [1, OFF]).map((mode) => (bsp: number) => [PAGE | mode | bsp, 0] as const),
      ],
      [1, fc.constant(() => [PAGE | BASE.EXTD, 0] as const)], // invalid
      [1, fc.nat(11).map((bit) => () => [PAGE | BASE.ENABLE | (1 << bit), 0] as const)],
      [
        1,
        fc.tuple(word, mix([1, fc.constant(0)], [1, fc.nat(23).map((bit) => 1 << bit)])).map(
          ([page, high]) =>
            () =>
              [(page & 0xfffff000) | BASE.ENABLE, high] as const,
        ),
      ],
    ),
  })
  .map(({ cpu, value }) => ({ apics }) => {
    const [low, high] = value(pick(apics, cpu).baseLow & BASE.BSP);
    return { kind: 'base', cpu: cpu % apics.length, low: low >>> 0, high };
  });

type Change = (apic: ApicSpec, machine: MachineSpec) => RegisterValue[];

const anyVectors = (register: number, mask: number): fc.Arbitrary<Change> =>
  fc.tuple(fc.nat(7), word).map(([n, bits]) => () => [reg(register + n * 16, bits & mask)]);

const CHANGE: fc.Arbitrary<Change> = mix<Change>(
  [2, choose([1, 0x1ff], [1, 0xff]).map((spiv) => () => [reg(REG.SPIV, spiv)])],
  [1, fc.nat(0x1fff).map((spiv) => () => [reg(REG.SPIV, spiv)])],
  [
    2,
    some.map((n) => (_: ApicSpec, { apics }: MachineSpec) => [reg(REG.ID, topByte(pick(apics, n).apicId))]),
  ],
  [1, fc.nat(7).map((bit) => () => [reg(REG.LDR, topByte(1 << bit))])],
  [
    1,
    fc.tuple(fc.nat(15), fc.nat(3)).map(([cluster, bit]) => () => [reg(REG.LDR, topByte(cluster * 16 + (1 << bit)))]),
  ],
  [1, word.map((ldr) => () => [reg(REG.LDR, ldr)])],
  [1, choose([1, DFR_FLAT], [1, DFR_CLUSTER]).map((dfr) => () => [reg(REG.DFR, dfr)])],
  [1, word.map((dfr) => () => [reg(REG.DFR, dfr)])],
  [1, byte.map((tpr) => () => [reg(REG.TPR, tpr)])],
  [1, anyVectors(REG.ISR, 0x7fffffff)],
  [1, anyVectors(REG.IRR, 0x7fffff00)],
  [1, anyVectors(REG.TMR, 0x7fffffff)],
  [
    1,
    fc.nat(1).map((off) => ({ apicId }: ApicSpec) => [reg(REG.ID, apicId + off)]),
  ],
  [1, mix([1, fc.constant<RegisterValue[]>([])], [3, ODDITIES]).map((registers) => () => registers)],
);

const state: fc.Arbitrary<OperationMaker> = fc
  .record({ cpu: some, change: CHANGE })
  .map(({ cpu, change }) => (machine) => {
    const registers = change(pick(machine.apics, cpu), machine);
    return { kind: 'state', cpu: cpu % machine.apics.length, registers };
  });

const OPERATION = mix<OperationMaker>([44, msi], [4, look('settle')], [1, look('events')], [5, base], [10, state]);

// Cases

export interface Recipe {
  readonly rig: number;
  /** Fixed and lowest priority alone. */
  readonly calm: boolean;
  readonly apics: readonly [slot: number, ApicMaker][];
  readonly operations: readonly OperationMaker[];
}

export function recipes(rigs: number): fc.Arbitrary<Recipe> {
  const operations = fc.array(OPERATION, { minLength: 1, maxLength: MAX_OPERATIONS, size: 'max' });
  const calm = choose([1, false], [2, true]);
  const machines = FLAVOURS.map((flavour) => {
    const apic = apicMaker(flavour);
    return [1, mix([4, cpuList(apic, 2, 10)], [1, cpuList(apic, 1, MAX_CPUS)])] as const;
  });
  return fc.record({ rig: fc.nat(rigs - 1), calm, apics: mix(...machines), operations });
}

const cpuList = (
  apic: fc.Arbitrary<[slot: number, ApicMaker]>,
  minLength: number,
  maxLength: number,
): fc.Arbitrary<[slot: number, ApicMaker][]> =>
  fc.uniqueArray(apic, { minLength, maxLength, selector: ([slot]) => slot, size: 'max' });

export function resolve(recipe: Recipe, rigs: readonly RigSpec[]): Case<HostOperation> {
  const rig = pick(rigs, recipe.rig);
  const ordered = recipe.apics.toSorted(([a], [b]) => a - b);
  const apics = ordered.map(([, make], i) => make(rig.rig, i));
  const machine: MachineSpec = { ...rig, bootstrap: 0, apics };
  return { machine, operations: recipe.operations.map((make) => make(machine, recipe.calm)) };
}
