/**
 * Random machines and operations, as fast-check sees them: recipes of small numbers, where 0 is always the simplest choice,
 * so that shrinking makes a case plainer. `resolve` turns a recipe into the case that it means.
 */
import fc from 'fast-check';
import { BASE, LVT, REG, TIMER_MODE } from '../apic/index.ts';
import type { RigSpec } from './rigs.ts';
import type { ApicSpec, Case, HostOperation, MachineSpec, RegisterValue } from './spec.ts';

const MAX_CPUS = 40;
const MAX_OPERATIONS = 40;

export interface ApicRecipe {
  readonly slot: number;
  readonly mode: number;
  readonly enabled: number;
  readonly id: number;
  readonly ldr: number;
  readonly dfr: number;
  readonly tpr: number;
  readonly bits: number;
  readonly base: number;
  readonly junk: number;
}

export interface OperationRecipe {
  readonly what: number;
  readonly cpu: number;
  readonly target: number;
  readonly mode: number;
  readonly vector: number;
  readonly flags: number;
  readonly value: number;
}

export interface Recipe {
  readonly rig: number;
  /** What most of the APICs are like: 0 mixed, 1 x2APIC, 2 flat, 3 cluster, 4 x2APIC with some in xAPIC mode. */
  readonly flavour: number;
  /** 0: all delivery modes. Else fixed and lowest alone: what the others leave behind takes long to look at and to put back. */
  readonly calm: number;
  readonly apics: readonly ApicRecipe[];
  readonly operations: readonly OperationRecipe[];
}

const word = fc.nat(0x7fffffff);

const apicRecipe: fc.Arbitrary<ApicRecipe> = fc.record({
  slot: fc.nat(MAX_CPUS - 1),
  mode: fc.nat(15),
  enabled: fc.nat(7),
  id: fc.nat(31),
  ldr: fc.nat(0xffff),
  dfr: fc.nat(15),
  tpr: fc.nat(1023),
  bits: word,
  base: fc.nat(31),
  junk: fc.nat(63),
});

const operationRecipe: fc.Arbitrary<OperationRecipe> = fc.record({
  what: fc.nat(63),
  cpu: fc.nat(MAX_CPUS - 1),
  target: fc.nat(255),
  mode: fc.nat(15),
  vector: fc.nat(511),
  flags: fc.nat(255),
  value: word,
});

export function recipes(rigs: number): fc.Arbitrary<Recipe> {
  return fc.record({
    rig: fc.nat(rigs - 1),
    flavour: fc.nat(4),
    calm: fc.nat(2),
    apics: fc.oneof({ weight: 4, arbitrary: cpuList(2, 10) }, { weight: 1, arbitrary: cpuList(1, MAX_CPUS) }),
    operations: fc.array(operationRecipe, { minLength: 1, maxLength: MAX_OPERATIONS, size: 'max' }),
  });
}

const cpuList = (minLength: number, maxLength: number): fc.Arbitrary<ApicRecipe[]> =>
  fc.uniqueArray(apicRecipe, { minLength, maxLength, selector: ({ slot }) => slot, size: 'max' });

export function resolve(recipe: Recipe, rigs: readonly RigSpec[]): Case<HostOperation> {
  const rig = rigs[recipe.rig % rigs.length];
  if (rig === undefined) throw new RangeError('there are no rigs');
  const ordered = recipe.apics.toSorted((a, b) => a.slot - b.slot);
  const apics = ordered.map((apic, i) => resolveApic(apic, recipe.flavour, rig, i));
  const machine: MachineSpec = { ...rig, bootstrap: 0, apics };
  return {
    machine,
    operations: recipe.operations.map((operation) => resolveOperation(operation, machine, recipe.calm !== 0)),
  };
}

const X2APIC = BASE.ENABLE | BASE.EXTD;

/** Mode by flavour: indexes of `mode` (0-15) below the first number are the flavour's own, the rest are noise. */
function baseMode(recipe: ApicRecipe, flavour: number): number {
  const noise = [BASE.ENABLE, X2APIC, 0][recipe.mode % 3] ?? 0;
  switch (flavour) {
    case 1:
      return recipe.mode < 15 ? X2APIC : noise;
    case 2:
    case 3:
      return recipe.mode < 15 ? BASE.ENABLE : noise;
    case 4:
      return recipe.mode < 11 ? X2APIC : recipe.mode < 15 ? BASE.ENABLE : 0;
    default:
      return recipe.mode < 7 ? BASE.ENABLE : recipe.mode < 14 ? X2APIC : 0;
  }
}

const DFR_FLAT = 0xffffffff;
const DFR_CLUSTER = 0x0fffffff;

function resolveApic(recipe: ApicRecipe, flavour: number, rig: RigSpec, index: number): ApicSpec {
  const apicId = rig.rig[recipe.slot % rig.rig.length] ?? 0;
  const mode = baseMode(recipe, flavour);
  const relocated = recipe.base === 31 ? 0xfed40000 : 0xfee00000;
  const bsp = recipe.base % 7 === 6 ? BASE.BSP : 0;
  const registers: RegisterValue[] = [[REG.SPIV, spuriousVector(recipe)]];
  const ownId = recipe.id < 24 ? apicId & 0xff : interestingId(recipe.id, rig);
  if (mode !== X2APIC) registers.push([REG.ID, ownId * 2 ** 24]);
  const ldr = logicalId(recipe, flavour, index);
  registers.push([REG.LDR, ldr * 2 ** 24]);
  registers.push([REG.DFR, destinationFormat(recipe, flavour, ldr)]);
  if (recipe.tpr >= 512) registers.push([REG.TPR, recipe.tpr & 0xff]);
  registers.push(...vectorBits(recipe.bits), ...junk(recipe.junk, recipe.bits));
  return { apicId, baseLow: (relocated | mode | bsp) >>> 0, baseHigh: 0, registers };
}

const spuriousVector = ({ enabled, bits }: ApicRecipe): number =>
  enabled < 6 ? 0x1ff : enabled === 6 ? 0xff : bits & 0x1fff;

const interestingId = (which: number, rig: RigSpec): number =>
  which < 26 ? ([0, 0xff][which - 24] ?? 0) : (rig.rig[(which * 7) % rig.rig.length] ?? 0) & 0xff;

/** A bit of its own in most; else anything: zero, several bits, somebody else's. */
function logicalId({ ldr }: ApicRecipe, flavour: number, index: number): number {
  const own = flavour === 3 ? ((index >> 2) & 0xf) * 16 + (1 << (index & 3)) : 1 << (index & 7);
  const choice = ldr >>> 8;
  const noisy = flavour === 2 || flavour === 3 ? 248 : 180;
  if (choice < noisy) return flavour === 2 && index > 7 ? 0 : own;
  return choice % 4 === 0 ? 0 : choice % 4 === 1 ? 1 << (ldr & 7) : ldr & 0xff;
}

function destinationFormat({ dfr, bits }: ApicRecipe, flavour: number, ldr: number): number {
  const usual = flavour === 3 ? DFR_CLUSTER : DFR_FLAT;
  // Whoever has no logical ID may well be of another mind about the mode.
  if (ldr === 0 && dfr % 2 === 1) return usual === DFR_FLAT ? DFR_CLUSTER : DFR_FLAT;
  if (dfr < 13 || ((flavour === 2 || flavour === 3) && dfr < 15)) return usual;
  if (dfr === 13) return DFR_CLUSTER;
  return dfr === 14 ? (((bits & 0xf) << 28) | 0x0fffffff) >>> 0 : bits;
}

/** Some vectors in IRR, ISR and TMR. */
function vectorBits(bits: number): RegisterValue[] {
  const list: RegisterValue[] = [];
  if ((bits & 3) === 1) list.push([REG.IRR + ((bits >> 4) & 7) * 16, (1 << (bits >> 8)) >>> 0]);
  if ((bits & 0xc) === 4) list.push([REG.ISR + ((bits >> 7) & 7) * 16, (1 << (bits >> 11)) >>> 0]);
  if ((bits & 0x30) === 0x10) list.push([REG.TMR + ((bits >> 10) & 7) * 16, (1 << (bits >> 14)) >>> 0]);
  return list;
}

/** Registers that routing does not look at: a state must carry them, or KVM must not let it. The timer stays off (TMICT 0) but for one. */
function junk(which: number, bits: number): RegisterValue[] {
  const value = Math.imul(bits, 0x9e3779b1) >>> 0;
  switch (which) {
    case 63:
      return [[REG.VERSION, value]];
    case 62:
      return [[REG.ICR, value]];
    case 61:
      return [[REG.ICR2, value]];
    case 60:
      return [[REG.TMCCT, value]];
    case 59:
      return [[REG.ESR, value]];
    case 58:
      return [[REG.LVT_TIMER, value & 0x1ffff]];
    case 57:
      return [[REG.LVT_LINT0, value & 0x1f8ff]]; // not ExtINT: KVM then watches LINT0 for NMIs
    case 56:
      return [[REG.ICR + 4, value]];
    case 55:
      return [[REG.LDR, value]];
    case 54: {
      const offset = (value >>> 8) & 0x3fc;
      return TIMER.has(offset) ? [] : [[offset, value]];
    }
    case 53:
      return [[REG.ID, value]];
    case 52: // a timer that runs, and goes on from where the state says; it does not fire before the case is over
      return [
        [REG.LVT_TIMER, LVT.MASKED | (value & TIMER_MODE.PERIODIC)],
        [REG.TDCR, DIVIDE_BY_1],
        [REG.TMICT, 0xffffffff],
        [REG.TMCCT, 0x70000000 | (value & 0xfffffff)],
      ];
    default:
      return [];
  }
}

const DIVIDE_BY_1 = 0xb;
const TIMER = new Set<number>([REG.TMICT, REG.TDCR, REG.LVT_TIMER, REG.LVT_LINT0, REG.SPIV]);

function resolveOperation(recipe: OperationRecipe, machine: MachineSpec, calm: boolean): HostOperation {
  const { apics } = machine;
  const cpu = recipe.cpu % apics.length;
  const apic = apics[cpu];
  if (apic === undefined) throw new RangeError('a machine without APICs');
  if (recipe.what < 44) return resolveMsi(recipe, machine, calm);
  if (recipe.what < 48) return { kind: 'settle', cpu };
  if (recipe.what < 49) return { kind: 'events', cpu };
  if (recipe.what < 54) return { kind: 'base', cpu, ...resolveBase(recipe, apic) };
  return { kind: 'state', cpu, registers: resolveChange(recipe, machine, cpu) };
}

function resolveBase({ mode, value, flags }: OperationRecipe, apic: ApicSpec): { low: number; high: number } {
  const bsp = apic.baseLow & BASE.BSP;
  if (mode < 13) return { low: (0xfee00000 | ([BASE.ENABLE, X2APIC, 0][mode % 3] ?? 0) | bsp) >>> 0, high: 0 };
  if (mode === 13) return { low: (0xfee00000 | BASE.EXTD) >>> 0, high: 0 }; // invalid
  if (mode === 14) return { low: (0xfee00000 | BASE.ENABLE | (1 << (flags % 12))) >>> 0, high: 0 };
  return { low: ((value & 0xfffff000) | BASE.ENABLE) >>> 0, high: flags < 128 ? 0 : 1 << (flags % 24) };
}

function resolveChange(recipe: OperationRecipe, machine: MachineSpec, cpu: number): RegisterValue[] {
  const { mode, value, target } = recipe;
  const other = machine.apics[target % machine.apics.length]?.apicId ?? 0;
  switch (mode) {
    case 0:
    case 1:
      return [[REG.SPIV, (value & 1) === 0 ? 0x1ff : 0xff]];
    case 2:
      return [[REG.SPIV, value & 0x1fff]];
    case 3:
    case 4:
      return [[REG.ID, (other & 0xff) * 2 ** 24]];
    case 5:
      return [[REG.LDR, (1 << (value & 7)) * 2 ** 24]];
    case 6:
      return [[REG.LDR, ((value & 0xf0) | (1 << (value & 3))) * 2 ** 24]];
    case 7:
      return [[REG.LDR, value]];
    case 8:
      return [[REG.DFR, (value & 1) === 0 ? DFR_FLAT : DFR_CLUSTER]];
    case 9:
      return [[REG.DFR, value]];
    case 10:
      return [[REG.TPR, value & 0xff]];
    case 11:
      return [[REG.ISR + ((value >> 4) & 7) * 16, value]];
    case 12:
      return [[REG.IRR + ((value >> 4) & 7) * 16, value & 0xffffff00]];
    case 13:
      return [[REG.TMR + ((value >> 4) & 7) * 16, value]];
    case 14: {
      const id = machine.apics[cpu]?.apicId ?? 0;
      return [[REG.ID, (value & 1) === 0 ? id : id + 1]];
    }
    default:
      return junk(48 + (target & 15), value);
  }
}

const VECTORS = [0x31, 0x30, 0x45, 0x80, 0xfe, 0x20, 0x10, 0x0f];

function resolveMsi(recipe: OperationRecipe, { apics, x2apicFormat, rig }: MachineSpec, calm: boolean): HostOperation {
  const { target, vector, mode, flags, value } = recipe;
  const apic = apics[recipe.cpu % apics.length];
  const logical = (flags & 1) !== 0;
  const destination = logical ? logicalTarget(recipe, apic, apics.length) : physicalTarget(target, value, apic, rig);
  const hint = (flags & 0xc) === 0xc;
  const level = (flags & 0x30) === 0x30;
  const addressLow = 0xfee00000 + ((destination & 0xff) << 12) + (hint ? 8 : 0) + (logical ? 4 : 0);
  // Off the beaten track: bits that KVM does not look at, or (bits 7:0 with the gate on) refuses.
  const upper = destination & 0xffffff00;
  const addressHigh = x2apicFormat && target === 255 ? upper | (value & 0xff) : target === 254 ? value : upper;
  const deliveryMode = mode < 5 ? 0 : mode < 9 ? 1 : calm ? mode & 1 : mode - 8;
  const data =
    (vector < 256 ? (VECTORS[vector & 7] ?? 0x31) : vector & 0xff) | (deliveryMode << 8) | (level ? 0x8000 : 0);
  return { kind: 'msi', addressLow, addressHigh: addressHigh >>> 0, data };
}

function physicalTarget(target: number, value: number, apic: ApicSpec | undefined, rig: readonly number[]): number {
  const id = apic?.apicId ?? 0;
  if (target < 96) return id;
  if (target < 144) return id & 0xff;
  if (target < 176) return 0xff;
  if (target < 184) return 0xffffffff;
  if (target < 192) return rig[target % rig.length] ?? 0;
  if (target < 208) return (id ^ 0x100) >>> 0;
  if (target < 224) return ((apic?.registers.find(([offset]) => offset === REG.ID)?.[1] ?? 0) >>> 24) & 0xff;
  return target < 240 ? value & 0xfff : value;
}

function logicalTarget({ target, value }: OperationRecipe, apic: ApicSpec | undefined, apics: number): number {
  const id = apic?.apicId ?? 0;
  const x2apic = ((apic?.baseLow ?? 0) & BASE.EXTD) !== 0;
  const ldr = (apic?.registers.find(([offset]) => offset === REG.LDR)?.[1] ?? 0) >>> 24;
  if (target < 64) return x2apic ? ((id >>> 4) << 16) + (1 << (id & 15)) : ldr;
  if (target < 128) return x2apic ? ((id >>> 4) << 16) + (value & 0xffff) : ldr | (value & 0xff);
  if (target < 160) return value & 0xff;
  if (target < 184) return ((value % Math.max(1, apics >> 2)) << 4) | (value >>> 28);
  if (target < 200) return 0xff;
  if (target < 208) return 0xffffffff;
  if (target < 224) return ldr + (value & 0xf00);
  return value;
}
