/**
 * What a suite gave before, kept in a JSON file: for each test its outcome, and which of its checks failed. A run is as
 * good as its baseline if nothing fails that did not fail then, be it a whole test or one check of it.
 */
import { ConfigError } from '../machine/errors.ts';
import type { Outcome, TestResult } from './results.ts';

export interface BaselineEntry {
  readonly outcome: Outcome;
  readonly failed: readonly string[];
}
export type Baseline = ReadonlyMap<string, BaselineEntry>;

/** How a run differs from its baseline. */
export interface Comparison {
  readonly worse: readonly string[];
  readonly better: readonly string[];
}

const OUTCOMES: readonly unknown[] = ['PASS', 'FAIL', 'SKIP'];

export function formatBaseline(results: readonly TestResult[]): string {
  const entries = results.map(
    ({ name, outcome, checks }) => [name, { outcome, failed: failedChecks(checks) }] as const,
  );
  return `${JSON.stringify(Object.fromEntries(entries), null, 2)}\n`;
}

/** @throws ConfigError when it is not what `formatBaseline` wrote */
export function parseBaseline(text: string, path: string): Baseline {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    throw new ConfigError(`${path} is no baseline: it is not JSON`);
  }
  if (typeof parsed !== 'object' || parsed === null) throw new ConfigError(`${path} is no baseline: not an object`);
  const baseline = new Map<string, BaselineEntry>();
  for (const [name, value] of Object.entries(parsed)) {
    const { outcome, failed } = (value ?? {}) as Partial<BaselineEntry>;
    if (!OUTCOMES.includes(outcome) || !Array.isArray(failed)) {
      throw new ConfigError(`${path} is no baseline: '${name}' has no outcome and list of failed checks`);
    }
    baseline.set(name, value as BaselineEntry);
  }
  return baseline;
}

export function compare(results: readonly TestResult[], baseline: Baseline): Comparison {
  const worse: string[] = [];
  const better: string[] = [];
  for (const { name, outcome, checks, reason } of results) {
    const before = baseline.get(name) ?? { outcome: 'PASS', failed: [] };
    const failed = failedChecks(checks);
    const added = failed.filter((text) => !before.failed.includes(text));
    worse.push(...added.map((text) => `${name}: ${text}`));
    if (outcome === 'FAIL' && before.outcome !== 'FAIL' && added.length === 0)
      worse.push(`${name} (${reason ?? 'failed'})`);
    if (outcome === 'PASS' && before.outcome === 'FAIL') better.push(name);
  }
  return { worse, better };
}

function failedChecks(checks: TestResult['checks']): string[] {
  return [...new Set(checks.filter(({ outcome }) => outcome === 'FAIL').map(({ text }) => text))];
}
