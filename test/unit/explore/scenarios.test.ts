/** The code as it is: every schedule of every scenario, up to two preemptions, keeps its promise. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { SCENARIOS, Search } from '../../../src/explore/index.ts';

test.each(SCENARIOS.map((scenario) => [scenario.name, scenario] as const))(
  '%s',
  (_name, scenario) => {
    const { finding, states } = new Search(scenario, { preemptions: 2, memory: 'tso' }).run();
    expect(finding?.why).toBeUndefined();
    expect(states).toBeGreaterThan(1); // the threads do meet
  },
  300_000,
);

test('scenarios have names of their own', () => {
  expect(new Set(SCENARIOS.map(({ name }) => name)).size).toBe(SCENARIOS.length);
});

/** Comment marks and line ends apart. */
const prose = (text: string): string => text.replaceAll(/\s*\n\s*\*?\s*|\s+/g, ' ').toLowerCase();

test.each(SCENARIOS.map(({ name, from, promise }) => [name, from, promise]))(
  '%s checks a sentence that %s says',
  (_name, from, promise) => {
    const file = prose(readFileSync(new URL(`../../../src/${from}`, import.meta.url), 'utf8'));
    expect(file).toContain(promise.replace(/\.$/, '').toLowerCase());
  },
);
