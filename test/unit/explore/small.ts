/** Small programs over a few words, as scenarios. */
import {
  type MemoryModel,
  type Scenario,
  Search,
  type SearchOptions,
  type SearchResult,
  UNBOUNDED,
} from '../../../src/explore/index.ts';
import { ownWords } from '../../../src/explore/own-words.ts';
import { Pass } from '../../../src/explore/pass.ts';

export type Body = (words: Int32Array) => unknown;
export type Words = () => Int32Array;

/** Threads a, b, c ... over words X, Y, Z, W. @param check gets the threads' results and the words at the end */
export function program(
  bodies: readonly Body[],
  check: (results: readonly number[], words: readonly number[]) => string,
  timeLimits?: 'expire',
): Scenario<Words> {
  return {
    name: 'program',
    promise: 'as the test says',
    from: 'apic/lock.ts',
    world: () => {
      const { region, view } = ownWords(['X', 'Y', 'Z', 'W']);
      return { regions: [region], world: view };
    },
    threads: Object.fromEntries(
      bodies.map((body, thread) => [
        `thread ${thread}`,
        (view: Words) => {
          const words = view();
          return () => body(words);
        },
      ]),
    ),
    check: (view, results) => check(results, [...view().subarray(0, 4)]),
    ...(timeLimits === undefined ? {} : { timeLimits }),
  };
}

export const search = (scenario: Scenario<Words>, options: Partial<SearchOptions> = {}): SearchResult =>
  new Search(scenario, { preemptions: UNBOUNDED, memory: 'tso', ...options }).run();

/** Everything that the threads' results, and the words at the end, can be; sorted. */
export function outcomes(bodies: readonly Body[], memory: MemoryModel = 'tso', withWords = false): string[] {
  const seen = new Set<string>();
  const scenario = program(bodies, (results, words) => {
    seen.add(`${results.join(' ')}${withWords ? ` | ${words.join(' ')}` : ''}`);
    return '';
  });
  const { subject, touched } = searched(scenario, memory);
  seen.clear(); // what passes saw that did not know yet which words are shared
  subject.interception.install();
  try {
    new Pass(subject, touched, { bound: UNBOUNDED, buffered: memory === 'tso', shorten: 0 }).run();
  } finally {
    subject.interception.uninstall();
  }
  return [...seen].sort((x, y) => (x < y ? -1 : 1));
}

function searched(scenario: Scenario<Words>, memory: MemoryModel): Search {
  const search = new Search(scenario, { preemptions: UNBOUNDED, memory });
  search.run();
  return search;
}
