/**
 * An access to shared memory, as the explored code makes it: one word (a `fill`: several), one of these kinds. A kind says
 * what the access does to memory and what x86 does with it (SDM vol. 3A, 10.2; V8's code for Atomics on x64):
 *
 *   plain load, Atomics.load           a mov from memory; sees this thread's own buffered stores first
 *   plain store, fill                  a mov to memory; waits in the store buffer and leaves it in order, at any later time
 *   Atomics.store, the read-modify-    xchg or lock-prefixed: everything in the thread's store buffer goes to memory first,
 *   writes                             then the access happens, at once
 *   Atomics.wait, Atomics.notify       take V8's lock, which is a locked instruction too
 */
export const KIND = {
  LOAD: 0,
  STORE: 1,
  FILL: 2,
  ATOMIC_LOAD: 3,
  ATOMIC_STORE: 4,
  ADD: 5,
  SUB: 6,
  AND: 7,
  OR: 8,
  XOR: 9,
  EXCHANGE: 10,
  COMPARE_EXCHANGE: 11,
  WAIT: 12,
  NOTIFY: 13,
  /** An atomic write of a word that no other thread uses, after plain stores: only that it empties the buffer matters. */
  FENCE: 14,
} as const;

/** As a reader of the code knows them. */
export const KIND_NAMES = [
  'load',
  'store',
  'fill',
  'Atomics.load',
  'Atomics.store',
  'Atomics.add',
  'Atomics.sub',
  'Atomics.and',
  'Atomics.or',
  'Atomics.xor',
  'Atomics.exchange',
  'Atomics.compareExchange',
  'Atomics.wait',
  'Atomics.notify',
  'atomic write',
] as const;

/** What a thread learns from Atomics.wait. */
export const WAIT_RESULT = { OK: 0, NOT_EQUAL: 1, TIMED_OUT: 2 } as const;

export interface Operation {
  readonly kind: number;
  /** Number of the word in all the memory that is explored. */
  readonly word: number;
  /** What is stored, added, or expected (compareExchange, wait); how many to wake (notify). */
  readonly a: number;
  /** What replaces the expected value (compareExchange); the first word after a fill; 1 for a wait with a time limit. */
  readonly b: number;
}

export const same = (x: Operation, y: Operation): boolean =>
  x.kind === y.kind && x.word === y.word && x.a === y.a && x.b === y.b;

export const isLoad = (kind: number): boolean => kind === KIND.LOAD || kind === KIND.ATOMIC_LOAD;
/** May it stay in a store buffer? */
export const isPlainStore = (kind: number): boolean => kind === KIND.STORE || kind === KIND.FILL;
/** Does it empty the thread's store buffer first? */
export const drains = (kind: number): boolean => kind >= KIND.ATOMIC_STORE;
/** Is what the thread gets the value that was there? */
export const reads = (kind: number): boolean => isLoad(kind) || (kind >= KIND.ADD && kind <= KIND.COMPARE_EXCHANGE);

export const covers = (operation: Operation, word: number): boolean =>
  operation.kind === KIND.FILL ? word >= operation.word && word < operation.b : word === operation.word;

/** What an atomic write makes of a word. */
export function combine(kind: number, old: number, a: number, b: number): number {
  switch (kind) {
    case KIND.ADD:
      return (old + a) | 0;
    case KIND.SUB:
      return (old - a) | 0;
    case KIND.AND:
      return old & a;
    case KIND.OR:
      return old | a;
    case KIND.XOR:
      return old ^ a;
    case KIND.COMPARE_EXCHANGE:
      return old === a ? b : old;
    default:
      return a;
  }
}
