/**
 * The ways to say what a suite gave: lines as kvm-unit-tests' own runner prints them, TAP 13 with a point for each check
 * (as its -t does), JUnit XML. Pure: results in, text out.
 */
import type { Builder } from 'junit-report-builder';
import pc from 'picocolors';
import type { TestResult } from './results.ts';

export type ReportFormat = 'text' | 'tap' | 'junit';
export const REPORT_FORMATS: readonly ReportFormat[] = ['text', 'tap', 'junit'];

const COLOURS = { PASS: pc.green, FAIL: pc.red, SKIP: pc.yellow } as const;

/** `FAIL ioapic (30 tests, 1 unexpected failures)`. */
export function resultLine({ name, outcome, reason, summary }: TestResult): string {
  const why = reason ?? summary;
  return `${COLOURS[outcome](outcome)} ${name}${why === undefined ? '' : ` (${why})`}`;
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
export async function junitReport(results: readonly TestResult[]): Promise<string> {
  // Its types are an ES module's; what Node loads is CommonJS, whose one export is a builder.
  const library = (await import('junit-report-builder')).default as unknown as Builder;
  const builder = library.newBuilder().name('kvm-unit-tests');
  for (const { name, outcome, reason, summary, checks, seconds, output } of results) {
    const suite = builder.testSuite().name(name).time(seconds);
    for (const check of checks) {
      const each = suite.testCase().className(name).name(check.text);
      if (check.outcome === 'FAIL') each.failure(check.text);
      if (check.outcome === 'SKIP') each.skipped();
    }
    const whole = suite.testCase().className(name).name(name).time(seconds);
    if (outcome === 'SKIP') whole.skipped();
    if (outcome === 'FAIL') whole.failure(reason ?? summary ?? 'failed').standardOutput(output);
  }
  return `${builder.build()}\n`;
}
