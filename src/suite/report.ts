/**
 * The ways to say what a suite gave: lines as kvm-unit-tests' own runner prints them, TAP 13 with a point for each check
 * (as its -t does), JUnit XML. Pure: results in, text out.
 */
import pc from 'picocolors';
import { printable } from '../printable.ts';
import type { TestResult } from './results.ts';

export type ReportFormat = 'text' | 'tap' | 'junit';
export const REPORT_FORMATS: readonly ReportFormat[] = ['text', 'tap', 'junit'];

/** A failure's own lines that people see at once; JUnit's report has all. */
const LAST_LINES = 12;

const COLOURS = { PASS: pc.green, FAIL: pc.red, SKIP: pc.yellow } as const;

/** `FAIL ioapic (30 tests, 1 unexpected failures)`. */
export function resultLine({ name, outcome, reason, summary }: TestResult): string {
  const why = reason ?? summary;
  return `${COLOURS[outcome](outcome)} ${name}${why === undefined ? '' : ` (${why})`}`;
}

/** The last that a failed test printed, a line each; nothing for others. */
export function lastOutput({ outcome, output }: TestResult): string[] {
  if (outcome !== 'FAIL') return [];
  const lines = output.split(/\r?\n/).filter((line) => line.trim() !== '');
  return lines.slice(-LAST_LINES).map((line) => `  | ${printable(line)}`);
}

/** `17 tests: 14 passed, 1 failed, 2 skipped`. */
export function totalLine(results: readonly TestResult[]): string {
  const count = (outcome: string): number => results.filter((result) => result.outcome === outcome).length;
  return `${results.length} tests: ${count('PASS')} passed, ${count('FAIL')} failed, ${count('SKIP')} skipped`;
}

/** TAP numbers its points over the whole suite. */
export class TapReport {
  #points = 0;

  begin(): string {
    return 'TAP version 13\n';
  }

  /** A point for each check; one for the test itself where its checks do not tell the outcome. */
  test({ name, outcome, reason, checks }: TestResult): string {
    const points = checks.map(({ outcome: each, text }) => this.#point(each !== 'FAIL', `${name}: ${text}`, each));
    const told = checks.length > 0 && (outcome !== 'FAIL' || checks.some((check) => check.outcome === 'FAIL'));
    if (!told || reason !== undefined) {
      points.push(this.#point(outcome !== 'FAIL', reason === undefined ? name : `${name}: ${reason}`, outcome));
    }
    return points.join('');
  }

  end(): string {
    return `1..${this.#points}\n`;
  }

  #point(ok: boolean, description: string, outcome: string): string {
    // An unescaped # would begin a directive.
    const words = description.replaceAll('\\', '\\\\').replaceAll('#', '\\#');
    return `${ok ? 'ok' : 'not ok'} ${++this.#points} - ${words}${outcome === 'SKIP' ? ' # skip' : ''}\n`;
  }
}

/** A test suite for each image, a test case for each check, the output of those that failed. */
export function junitReport(results: readonly TestResult[]): string {
  const suites = results.map(({ name, outcome, reason, summary, checks, seconds, output }) => {
    const cases = checks.map(({ text, outcome: each }) => testCase({ classname: name, name: text }, each, text));
    const whole = { classname: name, name, time: seconds };
    return element('testsuite', counts([...checks.map((check) => check.outcome), outcome], { name, time: seconds }), [
      ...cases,
      testCase(whole, outcome, reason ?? summary ?? 'failed', output),
    ]);
  });
  const outcomes = results.flatMap(({ checks, outcome }) => [...checks.map((check) => check.outcome), outcome]);
  const root = element('testsuites', counts(outcomes, { name: 'kvm-unit-tests' }), suites);
  return `<?xml version="1.0" encoding="UTF-8"?>\n${root}\n`;
}

type Attributes = Readonly<Record<string, string | number>>;

function counts(outcomes: readonly string[], attributes: Attributes): Attributes {
  const count = (outcome: string): number => outcomes.filter((each) => each === outcome).length;
  return { ...attributes, tests: outcomes.length, failures: count('FAIL'), errors: 0, skipped: count('SKIP') };
}

function testCase(attributes: Attributes, outcome: string, message: string, output?: string): string {
  const parts: string[] = [];
  if (outcome === 'SKIP') parts.push(element('skipped', {}, []));
  if (outcome === 'FAIL') {
    parts.push(element('failure', { message }, []));
    if (output !== undefined) parts.push(element('system-out', {}, [escaped(output)]));
  }
  return element('testcase', attributes, parts);
}

function element(name: string, attributes: Attributes, contents: readonly string[]): string {
  const words = Object.entries(attributes).map(([key, value]) => ` ${key}="${escaped(String(value))}"`);
  const start = `<${name}${words.join('')}`;
  return contents.length === 0 ? `${start}/>` : `${start}>${contents.join('')}</${name}>`;
}

/** What XML 1.0 has no way to write is left out (guests print anything). */
function escaped(text: string): string {
  const names: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
  return text
    .replaceAll(/[^\t\n\r\x20-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu, '')
    .replaceAll(/[&<>"]/g, (character) => names[character] ?? '')
    .replaceAll(/[\t\n\r]/g, (character) => `&#${character.charCodeAt(0)};`);
}
