/**
 * Random machines and lists of register operations, as fast-check sees them: recipes of small numbers, where 0 is always
 * the simplest choice. `resolve` turns a recipe into a case; list-maker.ts makes the operations.
 */
import fc from 'fast-check';
import { BASE, REG } from '../../apic/index.ts';
import type { RigSpec } from '../rigs.ts';
import type { ApicSpec, Case, GuestOperation, RegisterValue } from '../spec.ts';
import {
  DEFAULT_PAGE,
  DFR_CLUSTER,
  DFR_FLAT,
  ListMaker,
  MASKED,
  type OperationRecipe,
  PAGES,
  type Tsc,
  X2APIC,
} from './list-maker.ts';

const MAX_CPUS = 5;
const MAX_OPERATIONS = 70;

interface CpuRecipe {
  readonly slot: number;
  readonly mode: number;
  readonly state: number;
}

export interface RegisterRecipe {
  readonly rig: number;
  /**
   * Are there writes to CR8? TPR's low bits are 0 then: a write that leaves its class as it is clears them, which is no exit
   * and shows nowhere in kvm_run, so that a monitor with its own APICs cannot know of it.
   */
  readonly cr8: boolean;
  readonly cpus: readonly CpuRecipe[];
  readonly operations: readonly OperationRecipe[];
}

const word = fc.nat(0x7fffffff);

export function recipes(rigs: number): fc.Arbitrary<RegisterRecipe> {
  const cpu = fc.record({ slot: fc.nat(15), mode: fc.nat(15), state: word });
  const operation = fc.record({
    what: fc.nat(127),
    cpu: fc.nat(MAX_CPUS - 1),
    register: fc.nat(255),
    choice: fc.nat(255),
    value: word,
    more: word,
  });
  return fc.record({
    rig: fc.nat(rigs - 1),
    cr8: fc.boolean(),
    cpus: fc.array(cpu, { minLength: 1, maxLength: MAX_CPUS, size: 'max' }),
    operations: fc.array(operation, { minLength: 1, maxLength: MAX_OPERATIONS, size: 'max' }),
  });
}

/** What lists must know of the host. */
export interface ListHost {
  readonly tsc: Tsc;
  /** Does KVM keep TPR's low bits while a guest runs? SVM without AVIC takes TPR from CR8 at every exit. */
  readonly lowTpr: boolean;
}

export function resolve(
  recipe: RegisterRecipe,
  rigs: readonly RigSpec[],
  { tsc, lowTpr }: ListHost,
): Case<GuestOperation> {
  const rig = rigs[recipe.rig % rigs.length];
  if (rig === undefined) throw new RangeError('there are no rigs');
  const slots = new Map<number, CpuRecipe>();
  for (const cpu of recipe.cpus) {
    const slot = cpu.slot % rig.rig.length;
    if (!slots.has(slot)) slots.set(slot, cpu);
  }
  const wholeTpr = lowTpr && !recipe.cr8;
  const apics = [...slots]
    .toSorted(([a], [b]) => a - b)
    .map(([slot, cpu], i) => resolveCpu(cpu, rig.rig[slot] ?? 0, i, slot === 0, wholeTpr));
  const list = new ListMaker(apics, tsc, { cr8: recipe.cr8, wholeTpr });
  for (const operation of recipe.operations) list.add(operation);
  return { machine: { ...rig, bootstrap: rig.rig[0] ?? 0, apics }, operations: list.operations };
}

function resolveCpu(
  { mode, state }: CpuRecipe,
  apicId: number,
  index: number,
  boots: boolean,
  wholeTpr: boolean,
): ApicSpec {
  const base = mode < 7 ? BASE.ENABLE : mode < 14 ? X2APIC : mode === 14 ? 0 : BASE.ENABLE;
  const registers: RegisterValue[] = [[REG.SPIV, (state & 0xf) === 0xf ? 0xff : 0x1ff]];
  if (base !== X2APIC) registers.push([REG.ID, (apicId & 0xff) * 2 ** 24]);
  registers.push([REG.LDR, (1 << (index & 7)) * 2 ** 24]);
  registers.push([REG.DFR, (state & 0x70) === 0x70 ? DFR_CLUSTER : DFR_FLAT]);
  if ((state & 0x700) === 0x700) registers.push([REG.TPR, (state >>> 12) & (wholeTpr ? 0xff : 0xf0)]);
  // In service from the start, for EOIs: where KVM ends interrupts by itself, nothing else ever is.
  if ((state & 0x1800) === 0x800) {
    registers.push([REG.ISR + ((state >>> 16) & 7) * 16, ((1 << (state >>> 19)) | (1 << (state >>> 24))) >>> 0]);
  }
  // A timer that is half-way, as a restored state has it.
  if ((state & 0x6000) === 0x6000)
    registers.push([REG.LVT_TIMER, MASKED], [REG.TMICT, 0xffffffff], [REG.TMCCT, 0x80000000]);
  const page = mode === 15 ? (PAGES[state % PAGES.length] ?? DEFAULT_PAGE) : DEFAULT_PAGE;
  return { apicId, baseLow: (page | base | (boots ? BASE.BSP : 0)) >>> 0, baseHigh: 0, registers };
}
