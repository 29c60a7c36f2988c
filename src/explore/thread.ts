/**
 * One thread of a scenario, as a tree: a node is a place where it stands before its next access to shared memory, a branch
 * is what that access gave it. What a thread does next depends on nothing but what its accesses gave it so far, so a place
 * is found by running the real code from the start, feeding it those values, up to the first access that is not known yet;
 * there the run is given up, by an exception. A place is found once, however many schedules lead to it.
 *
 * That is why no real threads are needed, and why an explored state is exact: place of each thread, words, store buffers.
 */
import type { Interception } from './interception.ts';
import type { Memory } from './memory.ts';
import { isPlainStore, KIND, type Operation, same } from './operation.ts';
import { Run } from './run.ts';

/** Which words' accesses are steps, and at which a fill is cut. */
export interface SharedWords {
  /** Their numbers, and 1 for each of them. */
  readonly list: readonly number[];
  readonly shared: Uint8Array;
  readonly cuts: Uint8Array;
}

/** What a thread came to: its result, or what it threw; and the words that it alone uses, as it left them. */
export interface Outcome {
  readonly result: number;
  readonly error: string | undefined;
  readonly own: readonly (readonly [word: number, value: number])[];
}

export interface Place {
  readonly id: number;
  readonly parent: Place | undefined;
  /** What the parent's access gave. */
  readonly given: number;
  readonly depth: number;
  /** How many accesses before this one were the very same and changed nothing: a spin. */
  repeats: number;
  /** The next access; undefined at the end. */
  operation: Operation | undefined;
  outcome: Outcome | undefined;
  readonly next: Map<number, Place>;
}

/** What an access that nobody has followed yet will probably give; undefined: stop here. */
export type Guess = (operation: Operation) => number | undefined;

/** How far a run goes on by guesses. What it finds is true in any case, and likely needed. */
const MAX_GUESSES = 400;

export class ThreadTree {
  readonly touched: Uint8Array;
  /** How many times the code has been run. */
  runs = 0;
  readonly #memory: Memory;
  readonly #interception: Interception;
  readonly #start: () => () => unknown;
  readonly #words: SharedWords;
  #root: Place | undefined;
  #places = 0;

  /** @param start sets the thread up, on memory as it is at first, and answers with its body */
  constructor(memory: Memory, interception: Interception, start: () => () => unknown, words: SharedWords) {
    this.#memory = memory;
    this.#interception = interception;
    this.#start = start;
    this.#words = words;
    this.touched = new Uint8Array(memory.length);
  }

  root(guess: Guess): Place {
    if (this.#root === undefined) {
      const root = this.#make(undefined, 0);
      this.#root = root;
      this.#discover(root, guess);
    }
    return this.#root;
  }

  /** Where the thread stands after its access at `place` gave it `given`. */
  follow(place: Place, given: number, guess: Guess): Place {
    const known = place.next.get(given);
    if (known !== undefined) return known;
    const made = this.#make(place, given);
    place.next.set(given, made);
    this.#discover(made, guess);
    return made;
  }

  /** The code's own call for each access on the way to `place`, as lines of a stack. */
  stacks(place: Place): string[] {
    const stacks: string[] = [];
    const limit = Error.stackTraceLimit;
    Error.stackTraceLimit = 30;
    const known = path(place);
    this.#run([], () => {
      stacks.push(new Error().stack ?? '');
      return known[stacks.length - 1]?.given;
    });
    Error.stackTraceLimit = limit;
    return stacks;
  }

  /** Runs up to `made` and, by guesses, on. */
  #discover(made: Place, guess: Guess): void {
    let at = made;
    let guesses = 0;
    const outcome = this.#run(path(made), (operation) => {
      if (at.operation === undefined) {
        at.operation = operation;
        if (repeatsParent(at, operation)) at.repeats = (at.parent?.repeats ?? 0) + 1;
      }
      const given = guesses++ < MAX_GUESSES ? guess(operation) : undefined;
      if (given === undefined) return undefined;
      let next = at.next.get(given);
      if (next === undefined) {
        next = this.#make(at, given);
        at.next.set(given, next);
      }
      at = next;
      return given;
    });
    if (outcome !== undefined) at.outcome = outcome;
  }

  #make(parent: Place | undefined, given: number): Place {
    return {
      id: this.#places++,
      parent,
      given,
      depth: parent === undefined ? 0 : parent.depth + 1,
      repeats: 0,
      operation: undefined,
      outcome: undefined,
      next: new Map(),
    };
  }

  /** @returns undefined when the run was given up before its end */
  #run(known: readonly Place[], beyond: Guess): Outcome | undefined {
    this.runs++;
    const memory = this.#memory;
    memory.reset();
    const body = this.#start();
    memory.reset(); // a run loop publishes while it is set up: `world` has done that already
    const run = new Run({ ...this.#words, touched: this.touched }, known, beyond);
    this.#interception.listener = run;
    try {
      const end = run.of(body);
      return end && { ...end, own: memory.changes(this.#words.shared) };
    } finally {
      this.#interception.listener = null;
    }
  }
}

/** Places from the root's successor to `place`. */
function path(place: Place): Place[] {
  const list: Place[] = new Array(place.depth);
  for (let at = place; at.parent !== undefined; at = at.parent) list[at.depth - 1] = at;
  return list;
}

/** Does the access at `place`, which gave `given`, leave memory and the thread's view as they were? */
function changesNothing(operation: Operation, given: number): boolean {
  if (operation.kind === KIND.COMPARE_EXCHANGE) return given !== operation.a;
  return operation.kind === KIND.LOAD || operation.kind === KIND.ATOMIC_LOAD;
}

const repeatsParent = (place: Place, operation: Operation): boolean => {
  const before = place.parent?.operation;
  return (
    before !== undefined && !isPlainStore(before.kind) && same(before, operation) && changesNothing(before, place.given)
  );
};
