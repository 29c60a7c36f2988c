/**
 * What layers 1 and 2 share: both compare outcomes of random cases, shorten what fails, and tell it in words. Each brings
 * its generator, its judges and what it must have seen. A case, for the speed, is one operation.
 */
import type fc from 'fast-check';
import type { ApicSystemOptions } from '../apic/index.ts';
import type { Suite } from './campaign.ts';
import { compareOutcomes, isHostsAffair } from './compare.ts';
import type { Coverage } from './coverage.ts';
import { describeCase, describeDifferences } from './describe.ts';
import { shorterLists } from './minimise.ts';
import { ModelJudge, type ModelObserver } from './model-judge.ts';
import { unitsOf, withLooks, withoutCpu } from './operations.ts';
import type { Case, Judge, MachineSpec, Operation, RigSpec } from './spec.ts';

/**
 * What fails is tried again if time may be to blame: a case takes milliseconds, and counters that are meant to outlast it may
 * not if a busy host stalls it for a second; two NMIs may become one if the first is late; and a timer of KVM's that a list
 * waits for may be late, the model's never.
 */
const SLOW_MILLIS = 1000;
const ATTEMPTS = 5;
const LONGER = 20;

export abstract class Layer<Kind extends Operation> implements Suite<Case<Kind>> {
  cases = 0;
  readonly model: ModelJudge;
  abstract readonly batch: number;
  readonly coverage: Coverage;
  readonly #observer: ModelObserver;
  readonly #broken: boolean;

  /** @param options the host's properties, the behaviour, the rules to break */
  constructor(options: ApicSystemOptions, observer: ModelObserver & { readonly coverage: Coverage }) {
    this.model = new ModelJudge(options, observer);
    this.coverage = observer.coverage;
    this.#observer = observer;
    this.#broken = (options.breakRules ?? []).length > 0;
  }

  /** The cases of a batch. */
  abstract arbitrary(seed: number): fc.Arbitrary<Case<Kind>>;
  abstract close(): void;
  /** Whose outcome is right, for machines of this rig. */
  abstract reference(rig: RigSpec): Judge | Promise<Judge>;

  /** Who is compared with it besides the model. */
  others(_rig: RigSpec): readonly Judge[] | Promise<readonly Judge[]> {
    return [];
  }

  prepare(seed: number): fc.Arbitrary<Case<Kind>> | Promise<fc.Arbitrary<Case<Kind>>> {
    return this.arbitrary(seed);
  }

  async judge(candidate: Case<Kind>): Promise<string[] | undefined> {
    const { machine, operations } = candidate;
    this.cases += operations.length;
    const reference = await this.reference(machine);
    const others = await this.others(machine);
    let tried = withLooks(candidate);
    for (let attempt = 1; ; attempt++) {
      const start = Date.now();
      const expected = reference.carryOut(tried);
      const known = this.model.carryOut(tried);
      let differences = compareOutcomes(expected, known);
      let judge: Judge = this.model;
      for (judge of differences.length > 0 ? [] : others) {
        differences = compareOutcomes(expected, judge.carryOut(tried), known);
        if (differences.length > 0) break;
      }
      // With a rule broken, what is to be seen is how the reference differs.
      if (differences.length === 0) return this.#broken ? undefined : this.#observer.wrong?.();
      const slow = Date.now() - start > SLOW_MILLIS;
      const late = judge === this.model && operations.some(({ kind }) => kind === 'wait');
      if (attempt === ATTEMPTS || !(slow || late || differences.every(isHostsAffair)))
        return describeDifferences(differences, [reference.name, judge.name]);
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
function withLongerWaits({ machine, operations }: Case): Case {
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
