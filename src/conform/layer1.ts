/**
 * Layer 1: routing without guest code. Random machines, made twice; random MSIs and changes of state; the kernel's answer
 * and every register page against ours after each. A case is one operation compared on a machine.
 */
import fc from 'fast-check';
import type { ApicSystemOptions } from '../apic/index.ts';
import { type Recipe, recipes, resolve } from './arbitraries.ts';
import { compare, type Mismatch } from './compare.ts';
import { Coverage } from './coverage.ts';
import { minimise } from './minimise.ts';
import { ModelJudge } from './model-judge.ts';
import { batchSeed } from './random.ts';
import { makeRigs, type RigSpec } from './rigs.ts';
import { ROUTING_COVERAGE, type RoutingFault, RoutingObserver } from './routing-coverage.ts';
import type { Case, Judge } from './spec.ts';

export interface Progress {
  readonly cases: number;
  readonly machines: number;
  readonly millis: number;
  readonly coverage: Coverage;
}

export interface RunOptions {
  readonly seed: number;
  /** How long to look for mismatches. Shrinking one takes up to 4 s more. */
  readonly millis: number;
  /** fast-check's path of a failure in this seed's batch: run that one alone. */
  readonly path?: string | undefined;
  /** The host's properties (probeHost), the behaviour, the rules to break. */
  readonly model: ApicSystemOptions;
  /** Judge to compare with. */
  readonly reference: Judge;
  readonly onProgress?: (progress: Progress) => void;
}

export interface Failure {
  /** Seed of the failing batch, and fast-check's path in it. */
  readonly seed: number;
  readonly path: string;
  readonly case: Case;
  readonly mismatch: Mismatch | undefined;
  /** The map and the scan disagree in a way that nobody intended. */
  readonly fault: RoutingFault | undefined;
  /** From the start until the first failing machine. */
  readonly foundAfterMillis: number;
}

export interface Result extends Progress {
  readonly failure: Failure | undefined;
}

/** Machines with the same rigs: making 160 vCPUs costs 50 ms. */
const MACHINES_PER_BATCH = 400;
const SHRINK_MILLIS = 1500;
const PROGRESS_MILLIS = 100;

class Failed extends Error {}

export function runLayer1(options: RunOptions): Result {
  const run = new Layer1(options);
  let failure: Failure | undefined;
  for (let batch = 0; failure === undefined && run.millis < options.millis; batch++) {
    failure = run.batch(batchSeed(options.seed, batch), options.path);
    if (options.path !== undefined) break;
  }
  return { cases: run.cases, machines: run.machines, millis: run.millis, coverage: run.coverage, failure };
}

class Layer1 {
  cases = 0;
  machines = 0;
  readonly coverage = new Coverage(ROUTING_COVERAGE);
  readonly #options: RunOptions;
  readonly #model: ModelJudge;
  readonly #observer: RoutingObserver;
  readonly #start = Date.now();
  #nextProgress = 0;
  #foundAt = 0;

  constructor(options: RunOptions) {
    this.#options = options;
    this.#model = new ModelJudge(options.model);
    this.#observer = new RoutingObserver(this.coverage, this.#model.system);
  }

  get millis(): number {
    return Date.now() - this.#start;
  }

  batch(seed: number, path: string | undefined): Failure | undefined {
    const rigs = makeRigs(seed);
    const property = fc.property(recipes(rigs.length), (recipe) => this.#tryOut(recipe, rigs));
    const details = fc.check(property, {
      seed,
      numRuns: MACHINES_PER_BATCH,
      unbiased: true,
      ...(path === undefined ? {} : { path }),
    });
    const recipe = details.counterexample?.[0];
    if (!details.failed || recipe === undefined) {
      this.#report(true);
      return undefined;
    }
    if (!(details.errorInstance instanceof Failed)) throw details.errorInstance;
    const shortest = minimise(
      resolve(recipe, rigs),
      (each) => this.#judge(each) !== undefined,
      Date.now() + SHRINK_MILLIS,
    );
    const judged = this.#judge(shortest);
    return {
      seed,
      path: details.counterexamplePath ?? '',
      case: shortest,
      mismatch: judged?.mismatch,
      fault: judged?.fault,
      foundAfterMillis: this.#foundAt - this.#start,
    };
  }

  /** Time is up: what is left of the batch passes unseen. So does what is left of a shrinking that takes too long. */
  get #over(): boolean {
    if (this.#foundAt !== 0) return Date.now() - this.#foundAt > SHRINK_MILLIS;
    return this.#options.path === undefined && this.millis > this.#options.millis;
  }

  #tryOut(recipe: Recipe, rigs: readonly RigSpec[]): void {
    if (this.#over) return;
    this.machines++;
    if (this.#judge(resolve(recipe, rigs)) === undefined) {
      this.#report(false);
      return;
    }
    if (this.#foundAt === 0) this.#foundAt = Date.now();
    throw new Failed();
  }

  #judge(candidate: Case): { mismatch: Mismatch | undefined; fault: RoutingFault | undefined } | undefined {
    const observer = this.#observer;
    let index = 0;
    const mismatch = compare(this.#options.reference, this.#model, candidate, {
      built: () => observer.built(this.#model.system),
      performed: (operation, outcome) => {
        this.cases++;
        observer.performed(operation, outcome, index++);
      },
    });
    const { fault } = observer;
    observer.fault = undefined;
    return mismatch === undefined && fault === undefined ? undefined : { mismatch, fault };
  }

  #report(force: boolean): void {
    const now = Date.now();
    if (!force && now < this.#nextProgress) return;
    this.#nextProgress = now + PROGRESS_MILLIS;
    this.#options.onProgress?.(this.#progress());
  }

  #progress(): Progress {
    return { cases: this.cases, machines: this.machines, millis: this.millis, coverage: this.coverage };
  }
}
