/**
 * Layer 1: routing without guest code. Random machines, made twice; random MSIs and changes of state; the kernel's answer
 * and every register page against ours after each. A case is one operation compared on a machine.
 */
import type { ApicSystemOptions } from '../apic/index.ts';
import { type Recipe, recipes, resolve } from './arbitraries.ts';
import type { Prepared, Suite } from './campaign.ts';
import { compare } from './compare.ts';
import { Coverage } from './coverage.ts';
import { shorterLists } from './minimise.ts';
import { ModelJudge } from './model-judge.ts';
import { describeCase, describeFault, describeMismatch } from './report.ts';
import { makeRigs } from './rigs.ts';
import { ROUTING_COVERAGE, RoutingObserver } from './routing-coverage.ts';
import type { Case, Judge, Operation } from './spec.ts';

export class Layer1 implements Suite<Recipe, Case> {
  cases = 0;
  /** Machines with the same rigs: making their 160 vCPUs costs 50 ms. */
  readonly batch = 400;
  readonly coverage = new Coverage(ROUTING_COVERAGE);
  readonly #reference: Judge;
  readonly #model: ModelJudge;
  readonly #observer: RoutingObserver;
  readonly #broken: boolean;

  /**
   * @param reference whom to compare with
   * @param model the host's properties (probeHost), the behaviour, the rules to break
   */
  constructor(reference: Judge, model: ApicSystemOptions) {
    this.#reference = reference;
    this.#model = new ModelJudge(model);
    this.#broken = (model.breakRules ?? []).length > 0;
    this.#observer = new RoutingObserver(this.coverage, this.#model.system);
  }

  prepare(seed: number): Prepared<Recipe, Case> {
    const rigs = makeRigs(seed);
    return { arbitrary: recipes(rigs.length), resolve: (recipe) => resolve(recipe, rigs) };
  }

  judge(candidate: Case): string[] | undefined {
    const observer = this.#observer;
    let index = 0;
    const mismatch = compare(this.#reference, this.#model, candidate, {
      built: () => observer.built(this.#model.system),
      performed: (operation, outcome) => {
        this.cases++;
        observer.performed(operation, outcome, index++);
      },
    });
    const { fault } = observer;
    observer.fault = undefined;
    if (mismatch !== undefined) return describeMismatch(mismatch, candidate.operations.length);
    // With a rule broken, what is to be seen is how the kernel differs.
    return fault === undefined || this.#broken ? undefined : describeFault(fault);
  }

  *shorter({ machine, operations }: Case): Generator<Case> {
    for (const fewer of shorterLists(operations)) yield { machine, operations: fewer };
    for (const i of machine.apics.keys()) {
      if (machine.apics.length === 1) break;
      const apics = machine.apics.toSpliced(i, 1);
      yield { machine: { ...machine, apics }, operations: operations.flatMap((each) => withoutCpu(each, i)) };
    }
    for (const [i, apic] of machine.apics.entries()) {
      for (const at of apic.registers.keys()) {
        const plainer = { ...apic, registers: apic.registers.toSpliced(at, 1) };
        yield { machine: { ...machine, apics: machine.apics.with(i, plainer) }, operations };
      }
    }
    for (const [i, operation] of operations.entries()) {
      if (operation.kind !== 'state' || operation.registers.length < 2) continue;
      for (const at of operation.registers.keys()) {
        const plainer = { ...operation, registers: operation.registers.toSpliced(at, 1) };
        yield { machine, operations: operations.with(i, plainer) };
      }
    }
  }

  describe(candidate: Case): string[] {
    return describeCase(candidate);
  }
}

/** The operation on a machine that lacks CPU `gone`: the later CPUs move up, and what was done to it is dropped. */
function withoutCpu(operation: Operation, gone: number): Operation[] {
  if (operation.kind === 'msi' || operation.cpu < gone) return [operation];
  return operation.cpu === gone ? [] : [{ ...operation, cpu: operation.cpu - 1 }];
}
