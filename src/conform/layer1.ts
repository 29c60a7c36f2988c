/**
 * Layer 1: routing without guest code. Random machines, made twice; random MSIs and changes of state; the kernel's answer
 * and every register page against ours after each.
 */
import type { ApicSystemOptions } from '../apic/index.ts';
import { type Recipe, recipes, resolve } from './arbitraries.ts';
import type { Prepared } from './campaign.ts';
import { compareOutcomes } from './compare.ts';
import { Coverage } from './coverage.ts';
import { describeFault } from './describe.ts';
import { Layer, type Wrong } from './layer.ts';
import { ModelJudge } from './model-judge.ts';
import { withLooks } from './operations.ts';
import { makeRigs } from './rigs.ts';
import { ROUTING_COVERAGE, RoutingObserver } from './routing-coverage.ts';
import type { Case, HostOperation, Judge } from './spec.ts';

export class Layer1 extends Layer<Recipe, HostOperation> {
  /** Machines with the same rigs: making their 160 vCPUs costs 50 ms. */
  readonly batch = 400;
  readonly coverage = new Coverage(ROUTING_COVERAGE);
  readonly #reference: Judge;
  readonly #model: ModelJudge;
  readonly #observer = new RoutingObserver(this.coverage);
  readonly #broken: boolean;

  /**
   * @param reference whom to compare with; closed with this layer
   * @param model the host's properties (probeHost), the behaviour, the rules to break
   */
  constructor(reference: Judge, model: ApicSystemOptions) {
    super();
    this.#reference = reference;
    this.#model = new ModelJudge(model);
    this.#model.observer = this.#observer;
    this.#broken = (model.breakRules ?? []).length > 0;
  }

  prepare(seed: number): Prepared<Recipe, Case<HostOperation>> {
    const rigs = makeRigs(seed);
    return { arbitrary: recipes(rigs.length), resolve: (recipe) => resolve(recipe, rigs) };
  }

  override judge(candidate: Case<HostOperation>): string[] | undefined {
    const wrong = super.judge(withLooks(candidate));
    const { fault } = this.#observer;
    // With a rule broken, what is to be seen is how the kernel differs.
    return wrong ?? (fault === undefined || this.#broken ? undefined : describeFault(fault));
  }

  close(): void {
    this.#reference.close();
  }

  protected judgeOnce(candidate: Case<HostOperation>): Wrong | undefined {
    const expected = this.#reference.carryOut(candidate);
    const differences = compareOutcomes(expected, this.#model.carryOut(candidate));
    return differences.length > 0 ? { differences, judges: [this.#reference.name, this.#model.name] } : undefined;
  }
}
