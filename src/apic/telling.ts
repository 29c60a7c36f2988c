/**
 * For each rule that not every kernel has, the smallest case that tells which one is at work: what is done, and what comes of
 * it. On the model here; the same words are a recipe for KVM's ioctls, as each step is one.
 */

import type { ApicSystemOptions } from './options.ts';
import { REG } from './registers.ts';
import { RULE_NAMES, RULES, type RuleName } from './rules.ts';
import { ApicSystem } from './system.ts';

export interface TellingCase {
  /** What is done, in words. */
  readonly message: string;
  /** Does it with a model of these options, and says what came of it. */
  readonly ask: (options: ApicSystemOptions) => string;
}

/** The rules with a `since`. */
export const VERSIONED_RULES: readonly RuleName[] = RULE_NAMES.filter((name) => RULES[name].since !== undefined);

const MSI = 0xfee00000;
const LOGICAL = 1 << 2;
const VECTOR = 0x31;
const XAPIC = 0xfee00800;
const X2APIC = 0xfee00c00;
const ENABLED = 0x1ff;

/** APICs in xAPIC mode, software-enabled; with a LDR for each where given. */
function makeSystem(options: ApicSystemOptions, ids: readonly number[], ldrs: readonly number[] = []): ApicSystem {
  const system = new ApicSystem({ ...options, shared: false, maxApics: ids.length });
  ids.forEach((id, i) => {
    const apic = system.addApic(id);
    apic.writeMmio(REG.SPIV, 4, ENABLED);
    if (ldrs[i] !== undefined) apic.writeMmio(REG.LDR, 4, ldrs[i] << 24);
  });
  return system;
}

function sendMsi(system: ApicSystem, addressLow: number): string {
  const answer = system.signalMsi(addressLow, 0, VECTOR);
  const takers = Array.from({ length: system.count }, (_, i) => i).filter(
    (i) => system.apic(i).highestRequested() === VECTOR,
  );
  return `answers ${answer}, taken by ${takers.map((i) => `vCPU ${i}`).join(', ') || 'nobody'}`;
}

const to = (destination: number): number => MSI | (destination << 12);

const CASES: { readonly [Name in RuleName]?: TellingCase } = {
  gate: {
    message: 'gate off, APIC IDs 0x23 and 0x123 in xAPIC mode: an MSI to physical 0x23',
    ask: (options) => sendMsi(makeSystem(options, [0x23, 0x123]), to(0x23)),
  },
  logicalAlias: {
    message: 'APIC IDs 0 and 1, flat, both with logical ID 1: an MSI to logical 1',
    ask: (options) => sendMsi(makeSystem(options, [0, 1], [1, 1]), to(1) | LOGICAL),
  },
  noLogicalModeIsNobody: {
    message: 'APIC ID 0, software-disabled: an MSI to logical 1',
    ask: (options) => {
      const system = makeSystem(options, [0]);
      system.apic(0).writeMmio(REG.SPIV, 4, 0xff);
      return sendMsi(system, to(1) | LOGICAL);
    },
  },
  xapicIdOnLeavingX2apic: {
    message:
      'APIC ID 0x23 in x2APIC mode; the host writes IA32_APIC_BASE for xAPIC mode: the ID register, an MSI to 0x23',
    ask: (options) => {
      const system = makeSystem(options, [0x23]);
      const apic = system.apic(0);
      apic.setApicBaseFromHost(X2APIC, 0);
      apic.setApicBaseFromHost(XAPIC, 0);
      const id = new DataView(apic.getState().buffer).getUint32(REG.ID, true);
      return `ID ${id.toString(16).padStart(8, '0')}; the MSI ${sendMsi(system, to(0x23))}`;
    },
  },
  x2apicIdReadOnly: {
    message:
      'gate off, APIC ID 0x23 in x2APIC mode; KVM_SET_LAPIC with ID 0x24 in bits 31:24: ID and LDR, an MSI to 0x24',
    ask: (options) => {
      const system = makeSystem(options, [0x23]);
      const apic = system.apic(0);
      apic.setApicBaseFromHost(X2APIC, 0);
      const state = apic.getState();
      const view = new DataView(state.buffer);
      view.setUint32(REG.ID, 0x24 << 24, true);
      apic.setState(state);
      apic.getState(state);
      const registers = [REG.ID, REG.LDR].map((offset) => view.getUint32(offset, true).toString(16).padStart(8, '0'));
      return `ID ${registers[0]}, LDR ${registers[1]}; the MSI ${sendMsi(system, to(0x24))}`;
    },
  },
};

/** The case of a versioned rule. Throws RangeError for any other rule. */
export function tellingCase(name: RuleName): TellingCase {
  const found = CASES[name];
  if (found === undefined) throw new RangeError(`rule '${name}' is the same in every kernel`);
  return found;
}
