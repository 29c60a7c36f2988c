/** The memory model: the litmus tests that every description of x86-TSO has (Sewell and others, "x86-TSO", 2010; SDM 9.2). */
import { describe, expect, test } from 'vitest';
import { type Body, outcomes } from './small.ts';

const [X, Y] = [0, 1];

const storeThenLoad = (mine: number, other: number, store: 'plain' | 'atomic', load: 'plain' | 'atomic'): Body => {
  return (words) => {
    if (store === 'plain') words[mine] = 1;
    else Atomics.store(words, mine, 1);
    return load === 'plain' ? words[other] : Atomics.load(words, other);
  };
};

describe('store buffering: each stores its own word and loads the other', () => {
  const both = (store: 'plain' | 'atomic', load: 'plain' | 'atomic'): Body[] => [
    storeThenLoad(X, Y, store, load),
    storeThenLoad(Y, X, store, load),
  ];

  test('with plain stores both may read 0', () => {
    expect(outcomes(both('plain', 'plain'))).toEqual(['0 0', '0 1', '1 0', '1 1']);
  });

  test('an atomic load is a mov and does not help', () => {
    expect(outcomes(both('plain', 'atomic'))).toContain('0 0');
  });

  test('with atomic stores, or without store buffers, at least one reads 1', () => {
    expect(outcomes(both('atomic', 'plain'))).toEqual(['0 1', '1 0', '1 1']);
    expect(outcomes(both('plain', 'plain'), 'sc')).toEqual(['0 1', '1 0', '1 1']);
  });

  test('another atomic write between store and load empties the buffer', () => {
    const fenced = (mine: number, other: number): Body => {
      return (words) => {
        words[mine] = 1;
        Atomics.add(words, 3, 1);
        return words[other];
      };
    };
    expect(outcomes([fenced(X, Y), fenced(Y, X)])).toEqual(['0 1', '1 0', '1 1']);
  });
});

test('message passing: stores leave a buffer in order, so who sees the second sees the first', () => {
  const seen = outcomes([
    (words) => {
      words[X] = 1;
      words[Y] = 1;
    },
    (words) => words[Y] * 10 + words[X],
  ]);
  expect(seen).toEqual(['0 0', '0 1', '0 11']);
});

test('load buffering: loads are not late, so not both read what the other stores afterwards', () => {
  const loadThenStore = (from: number, to: number): Body => {
    return (words) => {
      const value = words[from];
      words[to] = 1;
      return value;
    };
  };
  expect(outcomes([loadThenStore(X, Y), loadThenStore(Y, X)])).toEqual(['0 0', '0 1', '1 0']);
});

test('a thread sees its own store before the others do', () => {
  const seen = outcomes([
    (words) => {
      words[X] = 1;
      return words[X] * 10 + words[Y];
    },
    (words) => {
      words[Y] = 1;
      return words[Y] * 10 + words[X];
    },
  ]);
  expect(seen).toEqual(['10 10', '10 11', '11 10', '11 11']);
});

test('independent reads of independent writes: all agree on the order', () => {
  const seen = outcomes([
    (words) => {
      words[X] = 1;
    },
    (words) => {
      words[Y] = 1;
    },
    (words) => words[X] * 10 + words[Y],
    (words) => words[Y] * 10 + words[X],
  ]);
  expect(seen).not.toContain('0 0 10 10');
  expect(seen).toContain('0 0 10 11');
});

test('two buffers with the same word empty in either order', () => {
  const store = (value: number): Body => {
    return (words) => {
      words[X] = value;
    };
  };
  expect(outcomes([store(1), store(2), (words) => words[X] * 10 + words[X]])).toEqual([
    '0 0 0',
    '0 0 1',
    '0 0 11',
    '0 0 12',
    '0 0 2',
    '0 0 21',
    '0 0 22',
  ]);
});

test('an increment that is no read-modify-write loses one; Atomics.add does not', () => {
  const final = (body: Body): string[] => outcomes([body, body, (words) => words[X]]);
  expect(
    final((words) => {
      words[X]++;
    }),
  ).toEqual(['0 0 0', '0 0 1', '0 0 2']);
  const added = outcomes([(words) => Atomics.add(words, X, 1), (words) => Atomics.add(words, X, 1)]);
  expect(added).toEqual(['0 1', '1 0']);
});

test('a fill is several stores: who reads in the middle may see part of it', () => {
  const seen = outcomes([
    (words) => {
      words.fill(7, 0, 2);
    },
    (words) => words[Y] * 10 + words[X],
    (words) => words[X] * 10 + words[Y],
  ]);
  expect(seen).toContain('0 0 70'); // the first half of it
  expect(seen).not.toContain('0 70 0'); // never the second before the first
});
