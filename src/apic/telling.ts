/**
 * For each rule that not every kernel has, the smallest case that tells which one is at work. A case asks whatever answers
 * as KVM's ioctls do: a model of ours (`modelToAsk`), or a kernel (src/conform/host.ts). The gate is off in all.
 */
import { DELIVERY } from './fields.ts';
import type { ApicSystemOptions } from './options.ts';
import { REG } from './registers.ts';
import { RULE_NAMES, RULES, type RuleName } from './rules.ts';
import { ApicSystem } from './system.ts';

/** The APICs that are asked, each step an ioctl. `cpu` is the order of creation, from 0. */
export interface ApicsToAsk {
  /** KVM_CREATE_VCPU. */
  add(apicId: number): void;
  /** KVM_SET_MSRS of IA32_APIC_BASE. */
  setBase(cpu: number, low: number): void;
  /** KVM_GET_LAPIC. */
  state(cpu: number): Uint8Array;
  /** KVM_SET_LAPIC. */
  setState(cpu: number, state: Uint8Array): void;
  /** KVM_SIGNAL_MSI: how many took it, or a negative errno. */
  signalMsi(addressLow: number, data: number): number;
  /** KVM_GET_VCPU_EVENTS: how many NMIs are pending. */
  pendingNmis(cpu: number): number;
}

/** The smallest case in which a kernel that has a rule and one that lacks it answer differently. */
export interface TellingCase {
  /** What is done, in words. */
  readonly message: string;
  /** Does it, and says what came of it. */
  readonly ask: (apics: ApicsToAsk) => string;
}

/** The rules with a `since`. */
export const VERSIONED_RULES: readonly RuleName[] = RULE_NAMES.filter((name) => RULES[name].since !== undefined);

/** The case of a versioned rule. Throws RangeError for any other rule. */
export function tellingCase(name: RuleName): TellingCase {
  const found = CASES[name];
  if (found === undefined) throw new RangeError(`rule '${name}' is the same in every kernel`);
  return found;
}

/** A model with these options; a new one for each case. */
export function modelToAsk(options: ApicSystemOptions): ApicsToAsk {
  const system = new ApicSystem({ ...options, shared: false, maxApics: 8, lateMapEntry: true });
  return {
    add: (apicId) => {
      system.addApic(apicId);
    },
    setBase: (cpu, low) => {
      system.apic(cpu).setApicBaseFromHost(low, 0);
    },
    state: (cpu) => system.apic(cpu).getState(),
    setState: (cpu, state) => {
      system.apic(cpu).setState(state);
    },
    signalMsi: (addressLow, data) => system.signalMsi(addressLow, 0, data),
    pendingNmis: (cpu) => system.apic(cpu).nmisInState(system.apic(cpu).takeNmis()),
  };
}

const MSI = 0xfee00000;
const LOGICAL = 1 << 2;
const VECTOR = 0x31;
const VECTOR_REGISTER = REG.IRR + (VECTOR >> 5) * 16;
const VECTOR_BIT = 1 << (VECTOR & 31);
const XAPIC = 0xfee00800;
const X2APIC = 0xfee00c00;
const ENABLED = 0x1ff;
const DISABLED = 0xff;
const FLAT = 0xffffffff;

const to = (destination: number): number => (MSI | (destination << 12)) >>> 0;
const hex8 = (value: number): string => value.toString(16).padStart(8, '0');

function change(
  apics: ApicsToAsk,
  cpu: number,
  registers: readonly (readonly [offset: number, value: number])[],
): void {
  const state = apics.state(cpu);
  const view = new DataView(state.buffer, state.byteOffset);
  for (const [offset, value] of registers) view.setUint32(offset, value >>> 0, true);
  apics.setState(cpu, state);
}

function register(apics: ApicsToAsk, cpu: number, offset: number): number {
  const state = apics.state(cpu);
  return new DataView(state.buffer, state.byteOffset).getUint32(offset, true);
}

/** vCPUs in xAPIC mode, in flat mode, by [APIC ID, logical ID]. */
function make(
  apics: ApicsToAsk,
  cpus: readonly (readonly [apicId: number, logicalId: number])[],
  spiv = ENABLED,
): void {
  for (const [apicId] of cpus) apics.add(apicId);
  for (const [cpu, [, logicalId]] of cpus.entries()) {
    change(apics, cpu, [
      [REG.SPIV, spiv],
      [REG.DFR, FLAT],
      [REG.LDR, logicalId << 24],
    ]);
  }
}

function sendMsi(apics: ApicsToAsk, addressLow: number, cpus: number): string {
  const answer = apics.signalMsi(addressLow, VECTOR);
  const took = Array.from({ length: cpus }, (_, cpu) => cpu).filter(
    (cpu) => (register(apics, cpu, VECTOR_REGISTER) & VECTOR_BIT) !== 0,
  );
  return `answers ${answer}, taken by ${took.map((cpu) => `vCPU ${cpu}`).join(', ') || 'nobody'}`;
}

const CASES: { readonly [Name in RuleName]?: TellingCase } = {
  gate: {
    message: 'APIC IDs 0x23 and 0x123 in xAPIC mode: an MSI to physical 0x23',
    ask: (apics) => {
      make(apics, [
        [0x23, 0],
        [0x123, 0],
      ]);
      return sendMsi(apics, to(0x23), 2);
    },
  },
  logicalAlias: {
    message: 'APIC IDs 0 and 1, flat, both with logical ID 1: an MSI to logical 1',
    ask: (apics) => {
      make(apics, [
        [0, 1],
        [1, 1],
      ]);
      return sendMsi(apics, to(1) | LOGICAL, 2);
    },
  },
  noLogicalModeIsNobody: {
    message: 'APIC ID 0, software-disabled: an MSI to logical 1',
    ask: (apics) => {
      make(apics, [[0, 0]], DISABLED);
      return sendMsi(apics, to(1) | LOGICAL, 1);
    },
  },
  xapicIdOnLeavingX2apic: {
    message: 'APIC ID 0x23 in x2APIC mode, KVM_SET_MSRS of IA32_APIC_BASE for xAPIC mode: the ID register',
    ask: (apics) => {
      make(apics, [[0x23, 0]]);
      apics.setBase(0, X2APIC);
      apics.setBase(0, XAPIC);
      return `ID ${hex8(register(apics, 0, REG.ID))}`;
    },
  },
  x2apicIdReadOnly: {
    message: 'APIC ID 0x23 in x2APIC mode, KVM_SET_LAPIC with ID 0x24 in bits 31:24: ID, LDR, an MSI to 0x24',
    ask: (apics) => {
      make(apics, [[0x23, 0]]);
      apics.setBase(0, X2APIC);
      change(apics, 0, [[REG.ID, 0x24 << 24]]);
      const [id, ldr] = [REG.ID, REG.LDR].map((offset) => hex8(register(apics, 0, offset)));
      return `ID ${id}, LDR ${ldr}; the MSI ${sendMsi(apics, to(0x24), 1)}`;
    },
  },
  everyNmiKept: {
    message: 'APIC ID 0: two MSIs of delivery mode NMI, then KVM_GET_VCPU_EVENTS',
    ask: (apics) => {
      make(apics, [[0, 0]]);
      for (let count = 0; count < 2; count++) apics.signalMsi(to(0), DELIVERY.NMI << 8);
      return `${apics.pendingNmis(0)} pending`;
    },
  },
};
