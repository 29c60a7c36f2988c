/**
 * A campaign: fast-check in batches until the time is up or something fails; then shrinking, first fast-check's of the
 * choices, then the suite's own of the case. Progress is reported from inside.
 */
import { setImmediate } from 'node:timers/promises';
import fc from 'fast-check';
import type { Coverage } from './coverage.ts';
import { minimise } from './minimise.ts';
import { batchSeed } from './random.ts';

/** What a layer brings. */
export interface Suite<Case> {
  readonly coverage: Coverage;
  /** Operations compared so far; what is counted as speed. */
  readonly cases: number;
  /** Machines (lists of operations) per batch: a batch shares what is costly to make. */
  readonly batch: number;
  prepare(seed: number): fc.Arbitrary<Case> | Promise<fc.Arbitrary<Case>>;
  /** @returns what is wrong, in lines for people, or undefined */
  judge(candidate: Case): string[] | undefined | Promise<string[] | undefined>;
  /** Shorter cases that may fail as well. */
  shorter(candidate: Case): Iterable<Case>;
  describe(candidate: Case): string[];
}

export interface Progress {
  /** Operations compared. */
  readonly cases: number;
  readonly machines: number;
  readonly millis: number;
  readonly coverage: Coverage;
}

export interface CampaignOptions {
  readonly seed: number;
  /** How long to look. */
  readonly millis: number;
  /** fast-check's path of a failure of this seed: run that one alone. */
  readonly path?: string | undefined;
  /** False: answer with the first failing case as it is. Default true. */
  readonly shrink?: boolean | undefined;
  /** How long fast-check may shrink what is found, and then our own shortening. Default 1,500 each. */
  readonly shrinkMillis?: number | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

export interface Failure {
  /** Seed of the failing batch, and fast-check's path in it. */
  readonly seed: number;
  readonly path: string;
  /** The shortest case, and what is wrong with it. */
  readonly lines: readonly string[];
  /** The same as JSON, for test/conformance/cases/. */
  readonly json: string;
  /** From the start until the first failing machine. */
  readonly foundAfterMillis: number;
}

export interface Result extends Progress {
  readonly failure: Failure | undefined;
}

const SHRINK_MILLIS = 1500;
const PROGRESS_MILLIS = 100;

class Failed extends Error {
  readonly wrong: readonly string[];

  constructor(wrong: readonly string[]) {
    super('judges differ');
    this.wrong = wrong;
  }
}

/** @throws RangeError for a path that no failure can have */
export async function runCampaign<Case>(suite: Suite<Case>, options: CampaignOptions): Promise<Result> {
  const { path, millis, shrink = true, shrinkMillis = SHRINK_MILLIS } = options;
  if (Number(path ?? 0) >= suite.batch)
    throw new RangeError(`path ${path} is not in the batch: its cases are 0 to ${suite.batch - 1}`);
  const start = Date.now();
  let machines = 0;
  let nextProgress = 0;
  let foundAt = 0;
  const passed = (): number => Date.now() - start;
  const progress = (): Progress => ({ cases: suite.cases, machines, millis: passed(), coverage: suite.coverage });
  const report = (pause: number): void => {
    if (Date.now() < nextProgress) return;
    nextProgress = Date.now() + pause;
    options.onProgress?.(progress());
  };
  /** Time is up: what is left of the batch passes unseen. So does what is left of a shrinking that takes too long. */
  const isOver = (): boolean =>
    foundAt === 0 ? path === undefined && passed() > millis : Date.now() - foundAt > shrinkMillis;
  const tryOut = async (candidate: Case): Promise<void> => {
    if (isOver()) return;
    machines++;
    const wrong = await suite.judge(candidate);
    if (wrong === undefined) return report(PROGRESS_MILLIS);
    if (foundAt === 0) foundAt = Date.now();
    throw new Failed(wrong);
  };
  const batch = async (seed: number): Promise<Failure | undefined> => {
    const details = await fc.check(fc.asyncProperty(await suite.prepare(seed), tryOut), {
      seed,
      numRuns: suite.batch,
      unbiased: true,
      endOnFailure: !shrink,
      ...(path !== undefined && { path }),
      ...(path === undefined && suite.batch > 1 && { interruptAfterTimeLimit: Math.max(1, millis - passed()) }),
    });
    const found = details.counterexample?.[0];
    if (!details.failed || found === undefined) return void report(0);
    if (!(details.errorInstance instanceof Failed)) throw details.errorInstance;
    let { wrong } = details.errorInstance;
    let shortest: Case = found;
    if (shrink) {
      const fails = async (candidate: Case): Promise<boolean> => (await suite.judge(candidate)) !== undefined;
      shortest = await minimise(found, suite.shorter.bind(suite), fails, Date.now() + shrinkMillis);
      wrong = (await suite.judge(shortest)) ?? ['it passed when it was tried once more; before that:', ...wrong];
    }
    return {
      seed,
      path: suite.batch > 1 ? (details.counterexamplePath ?? '').split(':')[0] : '', // the run; the rest is shrinking
      lines: [...suite.describe(shortest), ...wrong],
      json: JSON.stringify(shortest),
      foundAfterMillis: foundAt - start,
    };
  };
  let failure: Failure | undefined;
  for (let n = 0; failure === undefined && passed() < millis; n++) {
    await setImmediate(); // judges may be synchronous: let timers, messages and signals be heard
    failure = await batch(batchSeed(options.seed, n));
    if (path !== undefined) break;
  }
  return { ...progress(), failure };
}
