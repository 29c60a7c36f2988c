/**
 * Puts itself between the explored code and its memory, so that the code stays as it is: while installed, an Int32Array over
 * one of the explored buffers is a Proxy, and the functions of Atomics know it. Everything else in the process works as
 * before. Exploring is synchronous, so nobody else runs meanwhile.
 *
 * Only words that several threads touch (`shared`) reach the listener; the others are read and written in place, in a copy
 * that is the running thread's own. Views of other types (an APIC's timer has doubles) are not followed: they must be of
 * words that one thread alone uses.
 */
import { combine, isLoad, KIND } from './operation.ts';

/** Bits of a thread's footprint: what it does to a word. */
export const TOUCH = { READ: 1, WRITE: 2, SLEEP: 4 } as const;

export interface Listener {
  /** 1 for each word that somebody else may read: where a fill is cut. */
  readonly cuts: Uint8Array;
  /** Plain stores of shared words may be in the running thread's buffer. */
  readonly hasStored: boolean;
  /** Hears of every access, by its TOUCH bits. @returns whether `access` must be asked */
  touch(word: number, bits: number): boolean;
  /** @returns what the access gives the thread */
  access(kind: number, word: number, a: number, b: number): number;
}

interface View {
  readonly raw: Int32Array;
  /** Number of its first word. */
  readonly base: number;
}

const REPLACED = [
  'load',
  'store',
  'add',
  'sub',
  'and',
  'or',
  'xor',
  'exchange',
  'compareExchange',
  'wait',
  'notify',
] as const;

const RealInt32Array = globalThis.Int32Array;
const realAtomics = { ...pickAtomics() };

const ATOMIC_KINDS = {
  add: KIND.ADD,
  sub: KIND.SUB,
  and: KIND.AND,
  or: KIND.OR,
  xor: KIND.XOR,
  exchange: KIND.EXCHANGE,
} as const;

function pickAtomics(): Pick<typeof Atomics, (typeof REPLACED)[number]> {
  return Object.fromEntries(REPLACED.map((name) => [name, Atomics[name]])) as Pick<
    typeof Atomics,
    (typeof REPLACED)[number]
  >;
}

export class Interception {
  /** Who hears of accesses; null while a thread is set up or memory is looked at. */
  listener: Listener | null = null;
  readonly #bases: ReadonlyMap<ArrayBufferLike, number>;
  readonly #views = new WeakMap<object, View>();
  readonly #proxies = new Map<string, Int32Array>();

  /** @param bases each buffer, and the number of its first word */
  constructor(bases: ReadonlyMap<ArrayBufferLike, number>) {
    this.#bases = bases;
  }

  install(): void {
    const intercept = (args: unknown[]): object => this.#construct(args);
    globalThis.Int32Array = new Proxy(RealInt32Array, { construct: (_target, args) => intercept(args) });
    Object.assign(Atomics, this.#atomics());
  }

  uninstall(): void {
    globalThis.Int32Array = RealInt32Array;
    Object.assign(Atomics, realAtomics);
  }

  #construct(args: unknown[]): object {
    const made = Reflect.construct(RealInt32Array, args) as Int32Array;
    const base = this.#bases.get(args[0] as ArrayBufferLike);
    if (base === undefined) return made;
    const view = { raw: made, base: base + made.byteOffset / 4 };
    const key = `${view.base} ${made.length}`;
    const known = this.#proxies.get(key);
    if (known !== undefined) return known;
    const proxy = new Proxy(made, this.#handler(view));
    this.#views.set(proxy, view);
    this.#proxies.set(key, proxy);
    return proxy;
  }

  #handler(view: View): ProxyHandler<Int32Array> {
    const fill = (value: number, from = 0, to = view.raw.length): void => this.#fill(view, value, from, to);
    return {
      get: (raw, key) => {
        if (typeof key === 'string' && isIndex(key)) return this.#plainLoad(view, Number(key));
        if (key === 'fill' && this.listener !== null) return fill;
        const value = Reflect.get(raw, key) as unknown;
        if (typeof value !== 'function') return value;
        if (this.listener !== null) throw new Error(`the explorer does not follow Int32Array.${String(key)}`);
        return value.bind(raw) as unknown;
      },
      set: (raw, key, value) => {
        if (typeof key !== 'string' || !isIndex(key)) return Reflect.set(raw, key, value);
        this.#plainStore(view, Number(key), value | 0);
        return true;
      },
    };
  }

  #plainLoad({ raw, base }: View, index: number): number {
    const { listener } = this;
    if (listener === null) return raw[index] as number;
    const word = base + index;
    return listener.touch(word, TOUCH.READ) ? listener.access(KIND.LOAD, word, 0, 0) : (raw[index] as number);
  }

  #plainStore({ raw, base }: View, index: number, value: number): void {
    const { listener } = this;
    if (listener !== null) {
      const word = base + index;
      if (listener.touch(word, TOUCH.WRITE)) {
        listener.access(KIND.STORE, word, value, 0);
        return;
      }
    }
    raw[index] = value;
  }

  /** Several stores in ascending order; those between two words that somebody else may read are one step. */
  #fill({ raw, base }: View, value: number, from: number, to: number): void {
    const listener = this.listener as Listener;
    let first = -1;
    for (let index = from; index < to; index++) {
      const word = base + index;
      if (!listener.touch(word, TOUCH.WRITE)) {
        raw[index] = value;
        continue;
      }
      if (first < 0) first = word;
      if (listener.cuts[word] === 0) continue;
      listener.access(KIND.FILL, first, value | 0, word + 1);
      first = -1;
    }
    if (first >= 0) listener.access(KIND.FILL, first, value | 0, base + to);
  }

  #atomics(): Partial<typeof Atomics> {
    const views = this.#views;
    const modify = (kind: number, array: object, index: number, a: number, b: number): number => {
      const { raw, base } = views.get(array) as View;
      const { listener } = this;
      const word = base + index;
      if (listener !== null) {
        const bits = isLoad(kind) ? TOUCH.READ : kind === KIND.ATOMIC_STORE ? TOUCH.WRITE : BOTH;
        if (listener.touch(word, bits)) return listener.access(kind, word, a | 0, b | 0);
        if (!isLoad(kind) && listener.hasStored) listener.access(KIND.FENCE, word, 0, 0);
      }
      const old = raw[index] as number;
      if (!isLoad(kind)) raw[index] = combine(kind, old, a | 0, b | 0);
      return old;
    };
    type Numbers = Int32Array;
    const replaced: Record<string, unknown> = {
      load: (array: Numbers, index: number) =>
        views.has(array) ? modify(KIND.ATOMIC_LOAD, array, index, 0, 0) : realAtomics.load(array, index),
      store: (array: Numbers, index: number, value: number) => {
        if (!views.has(array)) return realAtomics.store(array, index, value);
        modify(KIND.ATOMIC_STORE, array, index, value, 0);
        return value;
      },
      compareExchange: (array: Numbers, index: number, expected: number, value: number) =>
        views.has(array)
          ? modify(KIND.COMPARE_EXCHANGE, array, index, expected, value)
          : realAtomics.compareExchange(array, index, expected, value),
      wait: (array: Numbers, index: number, value: number, millis = Number.POSITIVE_INFINITY) =>
        views.has(array)
          ? WAIT_WORDS[this.#futex(KIND.WAIT, array, index, value | 0, millis === Number.POSITIVE_INFINITY ? 0 : 1)]
          : realAtomics.wait(array, index, value, millis),
      notify: (array: Numbers, index: number, count = Number.POSITIVE_INFINITY) =>
        views.has(array)
          ? this.#futex(KIND.NOTIFY, array, index, Math.min(count, EVERYONE), 0)
          : realAtomics.notify(array, index, count),
    };
    for (const [name, kind] of Object.entries(ATOMIC_KINDS)) {
      const real = realAtomics[name as keyof typeof ATOMIC_KINDS];
      replaced[name] = (array: Numbers, index: number, value: number) =>
        views.has(array) ? modify(kind, array, index, value, 0) : real(array, index, value);
    }
    return replaced;
  }

  /** Sleeping and waking concern others by their nature, whatever word it is. */
  #futex(kind: number, array: object, index: number, a: number, b: number): number {
    const { listener } = this;
    if (listener === null) throw new Error('a thread sleeps or wakes others in its set-up: do it in its body');
    const word = (this.#views.get(array) as View).base + index;
    listener.touch(word, kind === KIND.WAIT ? BOTH | TOUCH.SLEEP : TOUCH.WRITE);
    return listener.access(kind, word, a, b);
  }
}

const BOTH = TOUCH.READ | TOUCH.WRITE;
const EVERYONE = 0x7fffffff;
const WAIT_WORDS = ['ok', 'not-equal', 'timed-out'] as const;

const isIndex = (key: string): boolean => {
  const first = key.charCodeAt(0);
  return first >= 48 && first <= 57;
};
