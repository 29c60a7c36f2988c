/**
 * Every schedule of a scenario with at most so many preemptions. A preemption takes a thread off that could go on; store
 * buffers may be late in every way, at no charge. Bound by bound, so that what is found has as few preemptions as can be;
 * and each bound until the set of shared words holds: threads' footprints grow until a whole pass adds nothing.
 */
import { TOUCH } from './interception.ts';
import { type Finding, Pass } from './pass.ts';
import type { AnyScenario } from './scenario.ts';
import { Subject } from './subject.ts';
import type { ThreadTree } from './thread.ts';

/** 'tso': x86's store buffers. 'sc': every store is in memory at once. */
export type MemoryModel = 'tso' | 'sc';

export interface SearchOptions {
  /** 0 or more, or UNBOUNDED. */
  readonly preemptions: number;
  readonly memory: MemoryModel;
  /** Steps to spend on a shorter schedule once there is a finding. */
  readonly shorten?: number;
}

export interface SearchResult {
  /** The shortest schedule with the fewest preemptions that breaks the promise. */
  readonly finding: (Finding & { readonly preemptions: number; readonly memory: MemoryModel }) | undefined;
  /** Of the last bound: distinct states, steps made, ends looked at. */
  readonly states: number;
  readonly steps: number;
  readonly ends: number;
  /** How often the code of a thread was run, in all. */
  readonly runs: number;
  readonly sharedWords: number;
  /** There is no schedule with more preemptions that was not explored. */
  readonly isComplete: boolean;
  readonly millis: number;
}

/** No bound. */
export const UNBOUNDED = Number.POSITIVE_INFINITY;

/** Up to here each bound is explored on its own. */
const CAREFUL_BOUND = 4;
const SETTLING_ROUNDS = 30;
/** About a second. */
const SHORTEN = 500_000;

export class Search {
  readonly subject: Subject;
  /** What each thread touches, as far as known. */
  readonly touched: readonly Uint8Array[];
  readonly #options: SearchOptions;
  #runs = 0;

  constructor(scenario: AnyScenario, options: SearchOptions) {
    this.subject = new Subject(scenario);
    this.#options = options;
    this.touched = this.subject.threadNames.map(() => new Uint8Array(this.subject.memory.length));
  }

  run(): SearchResult {
    const begun = performance.now();
    const { interception } = this.subject;
    interception.install();
    try {
      const { preemptions, memory } = this.#options;
      let bound = 0;
      let pass = this.#settle(bound, memory);
      while (pass.finding === undefined && pass.isLimited && bound < preemptions) {
        bound = bound < CAREFUL_BOUND ? bound + 1 : preemptions;
        pass = this.#settle(bound, memory);
      }
      const { states, steps, ends, words } = pass;
      // A finding that needs no store buffer is easier to read without.
      // (what a late store does, a preemption after it does).
      const plain = pass.finding && memory === 'tso' ? this.#withoutBuffers(bound) : undefined;
      const finding = plain ?? pass.finding;
      return {
        finding: finding && { preemptions: bound, memory, ...finding },
        isComplete: !pass.isLimited,
        states,
        steps,
        ends,
        runs: this.#runs,
        sharedWords: words.list.length,
        millis: performance.now() - begun,
      };
    } finally {
      interception.uninstall();
    }
  }

  #withoutBuffers(bound: number): SearchResult['finding'] {
    for (let preemptions = bound; preemptions <= Math.min(bound + 1, this.#options.preemptions); preemptions++) {
      const { finding } = this.#settle(preemptions, 'sc');
      if (finding !== undefined) return { ...finding, preemptions, memory: 'sc' };
    }
    return undefined;
  }

  #settle(bound: number, memory: MemoryModel): Pass {
    for (let round = 0; round < SETTLING_ROUNDS; round++) {
      const pass = new Pass(this.subject, this.touched, {
        bound,
        buffered: memory === 'tso',
        shorten: this.#options.shorten ?? SHORTEN,
      });
      pass.run();
      this.#runs += pass.threads.reduce((sum, { runs }) => sum + runs, 0);
      if (!this.#grow(pass.threads)) return pass;
    }
    throw new Error(`${this.subject.scenario.name}: the set of shared words does not settle`);
  }

  /** @returns whether a thread touched what it was not known to touch, and others or a sleeper care */
  #grow(threads: readonly ThreadTree[]): boolean {
    let grown = false;
    for (const [index, { touched }] of threads.entries()) {
      const known = this.touched[index] as Uint8Array;
      touched.forEach((bits, word) => {
        if ((bits & ~(known[word] as number)) === 0) return;
        known[word] = (known[word] as number) | bits;
        const isOthers = threads.some((thread, other) => other !== index && thread.touched[word] !== 0);
        if (isOthers || (bits & TOUCH.SLEEP) !== 0) grown = true;
      });
    }
    return grown;
  }
}
