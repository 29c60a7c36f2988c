/**
 * One run of a thread's code: known accesses get what they got before; what comes after is asked for, until there is no
 * answer, where the run is given up. A `catch` or `finally` of the code does not get further: its next access throws too.
 */
import { type Listener, TOUCH } from './interception.ts';
import { drains, isPlainStore, type Operation } from './operation.ts';
import type { Guess, Place } from './thread.ts';

/** Accesses after which a run is in an endless loop of its own: to words of its own, and to shared ones. */
const PATIENCE = 20_000;
const MAX_ACCESSES = 20_000;

const GIVEN_UP = new Error('run given up');
const ENDLESS = new Error('it loops without end');

export class Run implements Listener {
  readonly shared: Uint8Array;
  readonly cuts: Uint8Array;
  readonly touched: Uint8Array;
  hasStored = false;
  /** The run was given up before its end. */
  isGivenUp = false;
  readonly #known: readonly Place[];
  readonly #beyond: Guess;
  #step = 0;
  #patience = PATIENCE;
  #fault: Error | undefined;

  /** @param known places after each access that is known, in order */
  constructor(
    words: { readonly shared: Uint8Array; readonly cuts: Uint8Array; readonly touched: Uint8Array },
    known: readonly Place[],
    beyond: Guess,
  ) {
    this.shared = words.shared;
    this.cuts = words.cuts;
    this.touched = words.touched;
    this.#known = known;
    this.#beyond = beyond;
  }

  /** @returns what the body answered, or threw; undefined when the run was given up */
  of(body: () => unknown): { readonly result: number; readonly error: string | undefined } | undefined {
    let result: unknown;
    let error: string | undefined;
    try {
      result = body();
    } catch (thrown) {
      error = thrown instanceof Error ? thrown.message : String(thrown);
    }
    if (this.#fault) throw this.#fault;
    return this.isGivenUp ? undefined : { result: Number(result ?? 0), error };
  }

  touch(word: number, bits: number): boolean {
    this.touched[word] |= bits;
    if (this.shared[word] !== 0) return true;
    if (--this.#patience < 0) {
      this.touched[word] |= TOUCH.SLEEP; // it waits for somebody to change it: next time it counts as shared
      throw ENDLESS;
    }
    return false;
  }

  access(kind: number, word: number, a: number, b: number): number {
    if (this.isGivenUp || this.#fault) throw GIVEN_UP;
    if (this.#step > MAX_ACCESSES) throw ENDLESS;
    this.hasStored = isPlainStore(kind) || (this.hasStored && !drains(kind));
    const place = this.#known[this.#step];
    if (place !== undefined) {
      const { operation } = place.parent as Place;
      if (!isOperation(operation, kind, word, a)) {
        this.#fault = new Error('the code does not do the same when run again: does it use a clock, or chance?');
        throw this.#fault;
      }
      this.#step++;
      return place.given;
    }
    const given = this.#beyond({ kind, word, a, b });
    if (given === undefined) {
      this.isGivenUp = true;
      throw GIVEN_UP;
    }
    this.#step++;
    return given;
  }
}

const isOperation = (operation: Operation | undefined, kind: number, word: number, a: number): boolean =>
  operation !== undefined && operation.kind === kind && operation.word === word && operation.a === a;
