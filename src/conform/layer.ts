/**
 * What layers 1 and 2 share: both compare outcomes of random cases, shorten what fails, and tell it in words. Each brings
 * its generator, its judges and what it must have seen. A case, for the speed, is one operation.
 */
import type { Prepared, Suite } from './campaign.ts';
import { type Difference, isHostsAffair } from './compare.ts';
import type { Coverage } from './coverage.ts';
import { describeCase, describeDifferences } from './describe.ts';
import { shorterLists } from './minimise.ts';
import { unitsOf, withoutCpu } from './operations.ts';
import type { Case, MachineSpec, Operation } from './spec.ts';

/**
 * What fails is tried again if time may be to blame: a case takes milliseconds, and counters that are meant to outlast it may
 * not if a busy host stalls it for a second; two NMIs may become one if the first is late; and a timer of KVM's that a list
 * waits for may be late, the model's never.
 */
const SLOW_MILLIS = 1000;
const ATTEMPTS = 5;
const LONGER = 20;

export interface Wrong {
  readonly differences: readonly Difference[];
  readonly judges: readonly [string, string];
}

export abstract class Layer<Recipe, Kind extends Operation> implements Suite<Recipe, Case<Kind>> {
  cases = 0;
  abstract readonly batch: number;
  abstract readonly coverage: Coverage;

  abstract prepare(seed: number): Prepared<Recipe, Case<Kind>> | Promise<Prepared<Recipe, Case<Kind>>>;
  abstract close(): void;
  /** One try at a case, by all judges. */
  protected abstract judgeOnce(candidate: Case<Kind>): Wrong | undefined;

  judge(candidate: Case<Kind>): string[] | undefined {
    this.cases += candidate.operations.length;
    let tried = candidate;
    for (let attempt = 1; ; attempt++) {
      const start = Date.now();
      const wrong = this.judgeOnce(tried);
      if (wrong === undefined) return undefined;
      const slow = Date.now() - start > SLOW_MILLIS;
      const late = wrong.judges.includes('model') && candidate.operations.some(({ kind }) => kind === 'wait');
      if (attempt === ATTEMPTS || !(slow || late || wrong.differences.every(isHostsAffair)))
        return describeDifferences(wrong.differences, wrong.judges);
      if (late) tried = withLongerWaits(candidate);
    }
  }

  *shorter({ machine, operations }: Case<Kind>): Generator<Case<Kind>> {
    for (const fewer of shorterLists(unitsOf(operations)))
      if (fewer.length > 0) yield { machine, operations: fewer.flat() };
    for (const i of machine.apics.keys()) {
      const rest = withoutCpu(operations, i);
      if (machine.apics.length > 1 && rest.length > 0)
        yield { machine: { ...machine, apics: machine.apics.toSpliced(i, 1) }, operations: rest };
    }
    for (const plainer of plainerMachines(machine)) yield { machine: plainer, operations };
    for (const [i, operation] of operations.entries()) {
      if (operation.kind !== 'state' || operation.registers.length < 2) continue;
      for (const at of operation.registers.keys()) {
        const plainer = { ...operation, registers: operation.registers.toSpliced(at, 1) };
        yield { machine, operations: operations.with(i, plainer) };
      }
    }
  }

  describe(candidate: Case<Kind>): string[] {
    return describeCase(candidate);
  }
}

/** An emulated host's timers are late by more than a list waits. */
function withLongerWaits<Kind extends Operation>({ machine, operations }: Case<Kind>): Case<Kind> {
  const longer = operations.map((each) => (each.kind === 'wait' ? { ...each, low: each.low * LONGER } : each));
  return { machine, operations: longer };
}

function* plainerMachines(machine: MachineSpec): Generator<MachineSpec> {
  for (const [i, apic] of machine.apics.entries()) {
    for (const at of apic.registers.keys()) {
      const plainer = { ...apic, registers: apic.registers.toSpliced(at, 1) };
      yield { ...machine, apics: machine.apics.with(i, plainer) };
    }
  }
}
