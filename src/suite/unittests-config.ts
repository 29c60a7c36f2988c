/**
 * Reads kvm-unit-tests' x86/unittests.cfg (their docs/unittests.txt): sections of `key = value` lines, `"""` around values
 * of several lines. Knows the file's form only; what its QEMU options mean to a machine of ours is in qemu-params.ts.
 *
 * As their own reader does, it passes over every line that it does not know.
 */

/** One test: an image and how to run it. Values are as written, quotes included. */
export interface UnitTest {
  readonly name: string;
  /** Relative to the directory of the configuration. */
  readonly file: string;
  /** A number, or `$MAX_SMP`. */
  readonly smp: string;
  /** The image's command line, as a word of a shell. */
  readonly testArgs: string;
  /** Words of QEMU's command line. */
  readonly params: string;
  readonly groups: readonly string[];
  readonly arch: string;
  readonly machine: string;
  /** `path=value` pairs: files of the host that must hold the value. */
  readonly check: string;
  readonly accel: string;
  /** `90`, `90s`, `2m` or nothing. */
  readonly timeout: string;
  /** A shell condition. */
  readonly disabledIf: string;
}

/** Their key, and ours. */
const KEYS: Readonly<Record<string, Exclude<keyof UnitTest, 'name' | 'groups'> | 'groups'>> = {
  file: 'file',
  smp: 'smp',
  test_args: 'testArgs',
  qemu_params: 'params',
  extra_params: 'params',
  groups: 'groups',
  arch: 'arch',
  machine: 'machine',
  check: 'check',
  accel: 'accel',
  timeout: 'timeout',
  disabled_if: 'disabledIf',
};

const QUOTES = '"""';

export function parseUnitTests(text: string): UnitTest[] {
  const tests: UnitTest[] = [];
  const lines = text.split(/\r?\n/).values();
  let values: Map<string, string> | undefined;
  for (const line of lines) {
    const section = /^\[(.*)\]$/.exec(line);
    if (section) {
      if (values) tests.push(unitTest(values));
      values = new Map([['name', section[1] ?? '']]);
      continue;
    }
    const pair = /^([a-z_]+) *= *(.*)$/.exec(line);
    const key = KEYS[pair?.[1] ?? ''];
    if (!values || !pair || !key) continue;
    const value = pair[2] ?? '';
    values.set(key, value.startsWith(QUOTES) ? quoted(value.slice(QUOTES.length), lines) : value.trimEnd());
  }
  if (values) tests.push(unitTest(values));
  return tests;
}

function unitTest(values: ReadonlyMap<string, string>): UnitTest {
  const value = (key: string): string => values.get(key) ?? '';
  return {
    name: value('name'),
    file: value('file'),
    smp: values.get('smp') ?? '1',
    testArgs: value('testArgs'),
    params: value('params'),
    groups: value('groups').split(/\s+/).filter(Boolean),
    arch: value('arch'),
    machine: value('machine'),
    check: value('check'),
    accel: value('accel'),
    timeout: value('timeout'),
    disabledIf: value('disabledIf'),
  };
}

/** Takes lines up to the closing quotes (or the file's end); a backslash at a line's end joins it with the next. */
function quoted(first: string, rest: Iterator<string>): string {
  const lines: string[] = [];
  for (let line: string | undefined = first; line !== undefined; ) {
    const end: number = line.indexOf(QUOTES);
    lines.push(end < 0 ? line : line.slice(0, end));
    if (end >= 0) break;
    const next: IteratorResult<string> = rest.next();
    line = next.done ? undefined : next.value;
  }
  return lines.join('\n').replace(/(?<!\\)((?:\\\\)*)\\\n/g, '$1');
}
