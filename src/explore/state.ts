/**
 * A state of all threads together: where each stands, the shared words, what is in the store buffers, who sleeps. Steps are
 * taken in place and taken back. Plain stores go through a buffer for each thread, x86's total store order: they leave it
 * in order, at any time, and before the thread's next atomic write; a thread sees its own at once. Without buffers it is
 * sequential consistency.
 */
import { combine, covers, drains, isPlainStore, KIND, type Operation, reads, WAIT_RESULT } from './operation.ts';
import type { Guess, Place, ThreadTree } from './thread.ts';

/** What a step changed, to be taken back. */
export interface Mark {
  readonly thread: number;
  readonly place: Place;
  readonly stores: number;
  readonly flushed: number;
  readonly written: number;
  readonly sleepers: readonly Sleeper[];
}

export interface Sleeper {
  readonly thread: number;
  readonly word: number;
  readonly timed: boolean;
}

/** After so many turns a spin goes on only when its word changes. lock.ts gives up after 100. */
const ENDLESS_SPIN = 300;
const NONE: readonly Operation[] = [];

export class State {
  readonly words: Int32Array;
  readonly places: Place[];
  /** In the order in which they fell asleep. */
  sleepers: readonly Sleeper[] = [];
  /** Plain stores on the way to each thread's place, and how many of them memory has. */
  readonly #stores: Operation[][];
  readonly #flushed: number[];
  readonly #buffered: boolean;
  readonly #threads: readonly ThreadTree[];
  readonly #writes: number[] = []; // word, old value, ...
  #high = 0;
  #low = 0;

  constructor(initial: Int32Array, threads: readonly ThreadTree[], buffered: boolean) {
    this.words = initial;
    this.#threads = threads;
    this.#buffered = buffered;
    this.#stores = threads.map(() => []);
    this.#flushed = threads.map(() => 0);
    this.places = threads.map((thread, index) => thread.root(this.#guess(index)));
  }

  isFinished(thread: number): boolean {
    return (this.places[thread] as Place).outcome !== undefined;
  }

  isAsleep(thread: number): boolean {
    return this.sleepers.some((sleeper) => sleeper.thread === thread);
  }

  /** Neither at its end, nor asleep, nor in a spin that only somebody else can end. */
  canGo(thread: number): boolean {
    const place = this.places[thread] as Place;
    if (place.outcome !== undefined || this.isAsleep(thread)) return false;
    return place.repeats < ENDLESS_SPIN || this.seen(thread, (place.operation as Operation).word) !== place.given;
  }

  /** How many plain stores of a thread memory has not yet seen. */
  buffered(thread: number): number {
    return (this.#stores[thread] as Operation[]).length - (this.#flushed[thread] as number);
  }

  /** The oldest of them. */
  oldest(thread: number): Operation | undefined {
    return this.#stores[thread]?.[this.#flushed[thread] as number];
  }

  pending(thread: number): readonly Operation[] {
    return this.buffered(thread) === 0 ? NONE : (this.#stores[thread] as Operation[]).slice(this.#flushed[thread]);
  }

  /** What `thread` would read. */
  seen(thread: number, word: number): number {
    const stores = this.#stores[thread] as Operation[];
    for (let i = stores.length - 1; i >= (this.#flushed[thread] as number); i--) {
      const store = stores[i] as Operation;
      if (covers(store, word)) return store.a;
    }
    return this.words[word] as number;
  }

  /** The next access of `thread` happens. */
  step(thread: number): Mark {
    const place = this.places[thread] as Place;
    const operation = place.operation as Operation;
    const mark = this.#mark(thread);
    const { kind, word, a } = operation;
    if (isPlainStore(kind)) {
      (this.#stores[thread] as Operation[]).push(operation);
      if (!this.#buffered) this.#flushAll(thread);
      this.#go(thread, 0);
    } else if (!drains(kind)) {
      this.#go(thread, this.seen(thread, word));
    } else {
      this.#flushAll(thread);
      const old = this.words[word] as number;
      if (kind === KIND.FENCE) this.#go(thread, 0);
      else if (kind === KIND.WAIT) this.#wait(thread, operation, old);
      else if (kind === KIND.NOTIFY) this.#go(thread, this.#notify(word, a));
      else {
        this.#write(word, combine(kind, old, a, operation.b));
        this.#go(thread, reads(kind) ? old : 0);
      }
    }
    return mark;
  }

  /** The oldest store of `thread` reaches memory. */
  flush(thread: number): Mark {
    const mark = this.#mark(thread);
    this.#flushOne(thread);
    return mark;
  }

  /** The time limit of a sleeping thread is over. */
  expire(thread: number): Mark {
    const mark = this.#mark(thread);
    this.sleepers = this.sleepers.filter((sleeper) => sleeper.thread !== thread);
    this.#go(thread, WAIT_RESULT.TIMED_OUT);
    return mark;
  }

  undo(mark: Mark): void {
    const { thread } = mark;
    while (this.#writes.length > mark.written) {
      const old = this.#writes.pop() as number;
      const word = this.#writes.pop() as number;
      this.#hashWord(word, this.words[word] as number);
      this.words[word] = old;
      this.#hashWord(word, old);
    }
    // Whom a notify woke goes back to sleep.
    for (const sleeper of mark.sleepers) {
      if (sleeper.thread !== thread && !this.isAsleep(sleeper.thread)) {
        this.places[sleeper.thread] = (this.places[sleeper.thread] as Place).parent as Place;
      }
    }
    this.sleepers = mark.sleepers;
    this.places[thread] = mark.place;
    (this.#stores[thread] as Operation[]).length = mark.stores;
    this.#flushed[thread] = mark.flushed;
  }

  /** Sets `high` and `low` of a fingerprint of the state, of which `last` is a part. */
  fingerprint(last: number, out: { high: number; low: number }): void {
    let high = this.#high ^ mix(last + 1, 0x2545f491);
    let low = this.#low ^ mix(last + 1, 0x6c078965);
    for (let thread = 0; thread < this.places.length; thread++) {
      const value = Math.imul((this.places[thread] as Place).id, 1024) + this.buffered(thread);
      high ^= mix(value, 0x3c6ef372 + thread * 0x1003f);
      low ^= mix(value, 0x27d4eb2f + thread * 0x30005);
    }
    this.sleepers.forEach(({ thread }, order) => {
      high ^= mix(thread * 64 + order, 0x165667b1);
      low ^= mix(thread * 64 + order, 0x5bd1e995);
    });
    out.high = high;
    out.low = low;
  }

  #mark(thread: number): Mark {
    return {
      thread,
      place: this.places[thread] as Place,
      stores: (this.#stores[thread] as Operation[]).length,
      flushed: this.#flushed[thread] as number,
      written: this.#writes.length,
      sleepers: this.sleepers,
    };
  }

  #go(thread: number, given: number): void {
    const tree = this.#threads[thread] as ThreadTree;
    const place = this.places[thread] as Place;
    this.places[thread] = place.next.get(given) ?? tree.follow(place, given, this.#guess(thread));
  }

  #wait(thread: number, { word, a, b }: Operation, value: number): void {
    if (value !== a) this.#go(thread, WAIT_RESULT.NOT_EQUAL);
    else this.sleepers = [...this.sleepers, { thread, word, timed: b !== 0 }];
  }

  #notify(word: number, count: number): number {
    const woken = this.sleepers.filter((sleeper) => sleeper.word === word).slice(0, count);
    if (woken.length === 0) return 0;
    this.sleepers = this.sleepers.filter((sleeper) => !woken.includes(sleeper));
    for (const { thread } of woken) this.#go(thread, WAIT_RESULT.OK);
    return woken.length;
  }

  #flushAll(thread: number): void {
    while (this.buffered(thread) > 0) this.#flushOne(thread);
  }

  #flushOne(thread: number): void {
    const { kind, word, a, b } = this.oldest(thread) as Operation;
    (this.#flushed[thread] as number)++;
    if (kind === KIND.STORE) this.#write(word, a);
    else for (let each = word; each < b; each++) this.#write(each, a);
  }

  #write(word: number, value: number): void {
    const old = this.words[word] as number;
    if (old === value) return;
    this.#writes.push(word, old);
    this.#hashWord(word, old);
    this.words[word] = value;
    this.#hashWord(word, value);
  }

  #hashWord(word: number, value: number): void {
    this.#high ^= mix(value ^ Math.imul(word, 0x9e3779b1), 0x85ebca6b);
    this.#low ^= mix(value ^ Math.imul(word, 0x7feb352d), 0xc2b2ae35);
  }

  /** What accesses would give if this thread went on alone from now. */
  #guess(thread: number): Guess {
    const written = new Map<number, number>();
    const see = (word: number): number => written.get(word) ?? this.seen(thread, word);
    return ({ kind, word, a, b }) => {
      if (kind === KIND.WAIT) return see(word) === a ? undefined : WAIT_RESULT.NOT_EQUAL;
      if (kind === KIND.NOTIFY || kind === KIND.FENCE) return 0;
      if (kind === KIND.FILL) {
        for (let each = word; each < b; each++) written.set(each, a);
        return 0;
      }
      const old = see(word);
      if (kind === KIND.STORE) written.set(word, a);
      else if (drains(kind)) written.set(word, combine(kind, old, a, b));
      return reads(kind) ? old : 0;
    };
  }
}

/** Spreads a value over 32 bits (the finish of MurmurHash3). */
function mix(value: number, seed: number): number {
  let h = Math.imul(value ^ seed, 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13) ^ seed, 0xc2b2ae35);
  return h ^ (h >>> 16);
}
