/**
 * What became of one test: read from the image's exit status and from what it printed, by kvm-unit-tests' own convention
 * (their scripts/vmm.bash and lib/report.c).
 */

export type Outcome = 'PASS' | 'FAIL' | 'SKIP';

/** A line of the image's own: `PASS: ioapic physical destination mode`. */
export interface Check {
  /** XPASS counts as FAIL; XFAIL and KFAIL, which are expected, as PASS. */
  readonly outcome: Outcome;
  readonly text: string;
}

export interface TestResult {
  readonly name: string;
  readonly outcome: Outcome;
  /** Why it was skipped or failed, when the image did not say so itself. */
  readonly reason?: string;
  /** The image's last word, without `SUMMARY: `. */
  readonly summary?: string;
  readonly checks: readonly Check[];
  readonly seconds: number;
  /** What the image and the monitor printed, cut to a bounded length. */
  readonly output: string;
}

/** How a run of an image ended. */
export interface Ending {
  /** The exit status of `apiary run`; null when a signal ended it. */
  readonly status: number | null;
  readonly signal: string | null;
  readonly output: string;
  readonly errors: string;
  readonly seconds: number;
  readonly timeoutSeconds: number;
}

const Status = { success: 1, skipped: 77, timeout: 124, aborted: 127 } as const;

const CHECK = /^(PASS|FAIL|SKIP|XPASS|XFAIL|KFAIL): (.*)$/;
const EXPECTED: Readonly<Record<string, Outcome>> = { XPASS: 'FAIL', XFAIL: 'PASS', KFAIL: 'PASS' };

export function parseChecks(output: string): Check[] {
  return output.split(/\r?\n/).flatMap((line) => {
    const [, word, text] = CHECK.exec(line) ?? [];
    if (word === undefined || text === undefined) return [];
    return [{ outcome: EXPECTED[word] ?? (word as Outcome), text }];
  });
}

export function skipped(name: string, reason: string): TestResult {
  return { name, outcome: 'SKIP', reason, checks: [], seconds: 0, output: '' };
}

export function judge(name: string, ending: Ending): TestResult {
  const { status, signal, output, errors, seconds, timeoutSeconds } = ending;
  const summary = /^SUMMARY: (.*?)\r?$/m.exec(output.slice(output.lastIndexOf('\nSUMMARY: ') + 1))?.[1];
  const common = {
    name,
    checks: parseChecks(output),
    seconds,
    output: errors === '' ? output : `${output}${output.endsWith('\n') || output === '' ? '' : '\n'}${errors}`,
    ...(summary === undefined ? {} : { summary }),
  };
  if (signal !== null) return { ...common, outcome: 'FAIL', reason: `terminated on ${signal}` };
  switch (status) {
    case Status.success:
      return { ...common, outcome: 'PASS' };
    case Status.skipped:
      return { ...common, outcome: 'SKIP' };
    case Status.timeout:
      return { ...common, outcome: 'FAIL', reason: `timeout; duration=${timeoutSeconds}s` };
    case Status.aborted:
      return { ...common, outcome: 'FAIL', reason: 'aborted' };
    default: {
      // A summary speaks for itself; without one the monitor's own words are the best there is.
      const said = errors.split('\n')[0]?.replace(/^apiary: /, '');
      const reason = summary === undefined ? said || `ended with status ${status}` : undefined;
      return { ...common, outcome: 'FAIL', ...(reason === undefined ? {} : { reason }) };
    }
  }
}
