/** Sleeping, waking, spinning: what ends, what does not, and who is told of. */
import { describe, expect, test } from 'vitest';
import { type Body, program, search } from './small.ts';

const [X, Y] = [0, 1];
const holds = (): string => '';
const why = (bodies: readonly Body[], timeLimits?: 'expire'): string | undefined =>
  search(program(bodies, holds, timeLimits)).finding?.why;

const silent: Body = (words) => {
  words[X] = 1;
};

const sleepOn =
  (word: number, millis?: number): Body =>
  (words) => {
    while (Atomics.load(words, word) === 0) Atomics.wait(words, word, 0, millis);
  };

describe('a sleeper', () => {
  test('that is woken after the store always ends', () => {
    const waker: Body = (words) => {
      Atomics.store(words, X, 1);
      Atomics.notify(words, X);
    };
    expect(why([sleepOn(X), waker])).toBeUndefined();
  });

  test('that is woken before the store, or by a plain store alone, may sleep for ever', () => {
    const early: Body = (words) => {
      Atomics.notify(words, X);
      Atomics.store(words, X, 1);
    };
    for (const waker of [early, silent])
      expect(why([sleepOn(X), waker])).toBe('thread 0 sleeps on X, and nobody will wake it');
  });

  test('whose time limit alone would wake it is found too, unless the limit is meant to', () => {
    const idle: Body = () => 0;
    expect(why([sleepOn(X, 100), idle])).toBe('thread 0 sleeps on X, and only its time limit will wake it');
    const once: Body = (words) => (Atomics.wait(words, X, 0, 100) === 'timed-out' ? 1 : 0);
    expect(why([once, idle], 'expire')).toBeUndefined();
  });

  test('a notify of one wakes who slept first; one whose value is not there goes on', () => {
    const waiter = (words: Int32Array): number => (Atomics.wait(words, X, 0) === 'not-equal' ? 1 : 0);
    expect(why([waiter, waiter, (words) => Atomics.notify(words, X, 1)])).toMatch(/sleeps on X/);
    const store: Body = (words) => {
      Atomics.store(words, X, 5);
      return Atomics.notify(words, X);
    };
    const sum = (results: readonly number[]): string =>
      (results[0] ?? 0) + (results[1] ?? 0) === 1 ? '' : 'neither or both';
    expect(search(program([waiter, store], sum)).finding).toBeUndefined();
  });
});

test('two threads that take two locks in different order stand still', () => {
  const take = (words: Int32Array, at: number): void => {
    while (Atomics.compareExchange(words, at, 0, 1) !== 0) Atomics.wait(words, at, 1);
  };
  const give = (words: Int32Array, at: number): void => {
    Atomics.store(words, at, 0);
    Atomics.notify(words, at);
  };
  const both =
    (first: number, second: number): Body =>
    (words) => {
      take(words, first);
      take(words, second);
      give(words, second);
      give(words, first);
    };
  expect(why([both(X, Y), both(X, Y)])).toBeUndefined();
  expect(why([both(X, Y), both(Y, X)])).toMatch(/thread 0 sleeps on Y.*thread 1 sleeps on X/);
});

test('a spin ends when its word changes, and is told of when nobody changes it', () => {
  const spin: Body = (words) => {
    while (Atomics.load(words, X) === 0);
  };
  expect(why([spin, silent])).toBeUndefined();
  expect(why([spin, () => 0])).toBe('thread 0 spins on X for ever');
});

test('an exception of the code is a finding', () => {
  const thrower: Body = (words) => {
    if (Atomics.load(words, X) === 1) throw new RangeError('not this');
  };
  const { finding } = search(program([thrower, (words) => void Atomics.store(words, X, 1)], holds));
  expect([finding?.why, finding?.preemptions]).toEqual(['thread 0 threw: not this', 0]);
});

test('code that does something else when run again is refused', () => {
  let runs = 0;
  const fickle: Body = (words) => {
    Atomics.store(words, runs++ % 2, 1);
    return words[X] + words[Y];
  };
  expect(() => search(program([fickle, fickle], holds))).toThrow(/does not do the same when run again/);
});

test('afterwards Atomics and Int32Array are what they were', () => {
  const before = [Int32Array, ...Object.getOwnPropertyNames(Atomics).map((name) => Atomics[name as keyof Atomics])];
  search(program([sleepOn(X, 1), (words) => words.fill(1, 0, 2)], holds));
  expect(() =>
    search(
      program([() => 0], () => {
        throw new Error('in the check');
      }),
    ),
  ).toThrow('in the check');
  const after = [Int32Array, ...Object.getOwnPropertyNames(Atomics).map((name) => Atomics[name as keyof Atomics])];
  expect(after.every((each, i) => each === before[i])).toBe(true);
});
