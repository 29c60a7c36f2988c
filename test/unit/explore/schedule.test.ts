/** A finding is a value: it can be printed, written down in a few letters, and run again. */
import { describe, expect, test } from 'vitest';
import {
  parseSchedule,
  Replayer,
  Search,
  scheduleTable,
  scheduleText,
  scheduleTrace,
} from '../../../src/explore/index.ts';
import { type Body, program } from './small.ts';

const [X, Y] = [0, 1];

test('a schedule as text comes back as itself', () => {
  for (const text of ['a', 'a12b3Bb', 'c2A3b!a', 'z100']) expect(scheduleText(parseSchedule(text, 26))).toBe(text);
});

test.each(['', '3', 'a b', 'a0', 'd', 'D', 'A!', 'a100001', 'ä'])('%j is no schedule of three threads', (text) => {
  expect(() => parseSchedule(text, 3)).toThrow(RangeError);
});

/** Dekker's entry with plain stores: both may enter, by way of their store buffers. */
const enter =
  (mine: number, other: number): Body =>
  (words) => {
    words[mine] = 1;
    return words[other] === 0 ? 1 : 0;
  };
const mutex = program([enter(X, Y), enter(Y, X)], ([a, b]) => (a === 1 && b === 1 ? 'both are in' : ''));

/** An increment that is two accesses. */
const increment: Body = (words) => {
  words[X]++;
};
const counter = program([increment, increment], (_results, [x]) => (x === 2 ? '' : `X is ${x}`));

function find(scenario: typeof mutex, memory: 'tso' | 'sc' = 'tso') {
  const search = new Search(scenario, { preemptions: 2, memory });
  const { finding } = search.run();
  if (finding === undefined) return undefined;
  const replayer = new Replayer(search.subject, search.touched, finding.memory === 'tso');
  return { search, finding, replay: replayer.replay(finding.schedule) };
}

describe('a finding', () => {
  test('that needs store buffers says so; without them there is none', () => {
    const found = find(mutex);
    expect([found?.finding.memory, found?.finding.preemptions, found?.finding.why]).toEqual(['tso', 0, 'both are in']);
    expect(find(mutex, 'sc')).toBeUndefined();
  });

  test('that needs none is told without, with the fewest preemptions', () => {
    const found = find(counter);
    expect([found?.finding.memory, found?.finding.preemptions, found?.finding.why]).toEqual(['sc', 1, 'X is 1']);
  });

  test('is replayed from its short schedule to the same end', () => {
    for (const found of [find(mutex), find(counter)]) {
      expect(found?.replay.why).toBe(found?.finding.why);
      const { search, finding, replay } = found as NonNullable<typeof found>;
      const replayer = new Replayer(search.subject, search.touched, finding.memory === 'tso');
      expect(scheduleText(replay.schedule).length).toBeLessThan(6);
      expect(replayer.replay(replay.schedule)).toEqual(replay);
    }
  });

  test('is a table with a column for each thread: the word by its name, before and after', () => {
    const { replay, search } = find(counter) as NonNullable<ReturnType<typeof find>>;
    const table = scheduleTable(replay.rows, search.subject.threadNames, search.subject.memory);
    expect(table).toMatch(/a: thread 0 .*b: thread 1/);
    expect(table).toMatch(/load X = 0.*store X: 0 -> 1.*store X: stays 1/s);
  });

  test('shows a store that waits in its buffer, and when it leaves', () => {
    const { replay, search } = find(mutex) as NonNullable<ReturnType<typeof find>>;
    const table = scheduleTable(replay.rows, search.subject.threadNames, search.subject.memory);
    expect(table).toMatch(/store X := 1 \(buffered\)/);
    expect(table).toMatch(/\(its buffer\) X: 0 -> 1/);
  });

  test('is a trace: a track for each thread, steps in order, arrows between threads', () => {
    const { replay, search } = find(counter) as NonNullable<ReturnType<typeof find>>;
    const events = JSON.parse(scheduleTrace(replay.rows, search.subject.threadNames, search.subject.memory)) as {
      ph: string;
      tid: number;
      ts: number;
    }[];
    const steps = events.filter(({ ph }) => ph === 'X');
    expect(steps.map(({ ts }) => ts)).toEqual(replay.rows.map((_, index) => index));
    expect(new Set(steps.map(({ tid }) => tid))).toEqual(new Set([0, 1]));
    expect(events.some(({ ph }) => ph === 's') && events.some(({ ph }) => ph === 'f')).toBe(true);
  });

  test('a schedule that asks of a thread what it cannot do is refused', () => {
    const search = new Search(counter, { preemptions: 0, memory: 'sc' });
    search.run();
    const replayer = new Replayer(search.subject, search.touched, false);
    expect(() => replayer.replay(parseSchedule('a3', 2))).toThrow(
      /step 3 of the schedule is not possible for thread 0/,
    );
    expect(() => replayer.replay(parseSchedule('B', 2))).toThrow(/step 1/);
  });
});
