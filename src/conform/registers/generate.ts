/** Random machines and lists of register operations. `resolve` turns a recipe into the case that it means. */
import fc from 'fast-check';
import { BASE, LVT, REG } from '../../apic/index.ts';
import { choose, pick, word } from '../choices.ts';
import type { RigSpec } from '../rigs.ts';
import type { ApicSpec, Case, GuestOperation, RegisterValue } from '../spec.ts';
import { GuestList, type ListHost, type ListLimits, type Step, X2APIC } from './guest-list.ts';
import { DEFAULT_PAGE, DFR_CLUSTER, DFR_FLAT, OTHER_PAGES, STEP } from './steps.ts';

const MAX_CPUS = 5;
const MAX_OPERATIONS = 70;

type CpuMaker = (apicId: number, index: number, boots: boolean, limits: ListLimits) => ApicSpec;

export interface RegisterRecipe {
  readonly rig: number;
  /**
   * Are there writes to CR8? TPR's low bits are 0 then: a write that leaves its class as it is clears them, which is no exit
   * and shows nowhere in kvm_run, so that a monitor with its own APICs cannot know of it.
   */
  readonly cr8: boolean;
  readonly cpus: readonly [slot: number, CpuMaker][];
  readonly steps: readonly [cpu: number, Step][];
}

type Registers = (bits: number, limits: ListLimits) => RegisterValue[];
const nothing: Registers = () => [];

const cpu = fc
  .tuple(
    choose([7, BASE.ENABLE], [7, X2APIC], [1, 0]),
    choose([60, DEFAULT_PAGE], ...OTHER_PAGES.map((page) => [1, page] as const)),
    choose([15, 0x1ff], [1, 0xff]),
    choose([7, DFR_FLAT], [1, DFR_CLUSTER]),
    choose([7, nothing], [1, (bits, { wholeTpr }) => [[REG.TPR, bits & (wholeTpr ? 0xff : 0xf0)]]]),
    // In service from the start, for EOIs: where KVM ends interrupts by itself, nothing else ever is.
    choose(
      [3, nothing],
      [1, (bits) => [[REG.ISR + ((bits >>> 8) & 7) * 16, ((1 << (bits >>> 11)) | (1 << (bits >>> 16))) >>> 0]]],
    ),
    // A timer that is half-way, as a restored state has it.
    choose(
      [3, nothing],
      [
        1,
        () => [
          [REG.LVT_TIMER, LVT.MASKED],
          [REG.TMICT, 0xffffffff],
          [REG.TMCCT, 0x80000000],
        ],
      ],
    ),
    word,
  )
  .map<CpuMaker>(([mode, page, spiv, dfr, tpr, inService, timer, bits]) => (apicId, index, boots, limits) => ({
    apicId,
    baseLow: (page | mode | (boots ? BASE.BSP : 0)) >>> 0,
    baseHigh: 0,
    registers: [
      [REG.SPIV, spiv],
      ...(mode === X2APIC ? [] : [[REG.ID, (apicId & 0xff) * 2 ** 24] as const]),
      [REG.LDR, (1 << (index & 7)) * 2 ** 24],
      [REG.DFR, dfr],
      ...[tpr, inService, timer].flatMap((registers) => registers(bits, limits)),
    ],
  }));

export function recipes(rigs: number): fc.Arbitrary<RegisterRecipe> {
  const slots = {
    minLength: 1,
    maxLength: MAX_CPUS,
    size: 'max',
    selector: ([slot]: [number, CpuMaker]) => slot,
  } as const;
  return fc.record({
    rig: fc.nat(rigs - 1),
    cr8: fc.boolean(),
    cpus: fc.uniqueArray(fc.tuple(fc.nat(15), cpu), slots),
    steps: fc.array(fc.tuple(fc.nat(MAX_CPUS - 1), STEP), { minLength: 1, maxLength: MAX_OPERATIONS, size: 'max' }),
  });
}

export function resolve(
  { rig: n, cr8: asked, cpus, steps }: RegisterRecipe,
  rigs: readonly RigSpec[],
  { tsc, lowTpr, cr8Writes }: ListHost,
): Case<GuestOperation> {
  const cr8 = asked && cr8Writes;
  const rig = pick(rigs, n);
  const limits = { cr8, wholeTpr: lowTpr && !cr8 };
  const slots = new Map(cpus.map(([slot, make]) => [slot % rig.rig.length, make]));
  const apics = [...slots]
    .toSorted(([a], [b]) => a - b)
    .map(([slot, make], i) => make(rig.rig[slot] ?? 0, i, slot === 0, limits));
  const list = new GuestList(apics, tsc, limits);
  for (const [cpu, step] of steps) list.add(step, cpu);
  return { machine: { ...rig, bootstrap: rig.rig[0] ?? 0, apics }, operations: list.operations };
}
