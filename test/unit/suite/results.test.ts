/** kvm-unit-tests' convention: what a status and the image's lines mean. */
import { describe, expect, test } from 'vitest';
import { compare, formatBaseline, parseBaseline } from '../../../src/suite/baseline.ts';
import { imageEnvironment } from '../../../src/suite/environment.ts';
import { junitReport, lastOutput, resultLine, TapReport, totalLine } from '../../../src/suite/report.ts';
import { type Ending, judge, skipped, type TestResult } from '../../../src/suite/results.ts';

const ending = (changes: Partial<Ending>): Ending => ({
  status: 1,
  signal: null,
  output: '',
  errors: '',
  seconds: 1.5,
  timeoutSeconds: 90,
  ...changes,
});

const passed = judge('good', ending({ output: 'PASS: one\r\nPASS: two\r\nSUMMARY: 2 tests\r\n' }));
const failed = judge(
  'bad',
  ending({ status: 3, output: 'PASS: one\nFAIL: two # <&>\nSUMMARY: 2 tests, 1 unexpected failures\n' }),
);

// biome-ignore lint/suspicious/noControlCharactersInRegex: what colours look like
const plain = (text: string): string => text.replace(/\x1b\[\d+m/g, '');

describe('outcome', () => {
  test('debug exit 0 (status 1) passes', () => {
    expect(passed).toMatchObject({ outcome: 'PASS', summary: '2 tests' });
    expect(passed.checks).toEqual([
      { outcome: 'PASS', text: 'one' },
      { outcome: 'PASS', text: 'two' },
    ]);
  });

  test('status 77 is a skip, 124 a timeout, 127 an abort', () => {
    expect(judge('t', ending({ status: 77, output: 'SKIP: no\nSUMMARY: 1 tests, 1 skipped\n' }))).toMatchObject({
      outcome: 'SKIP',
      summary: '1 tests, 1 skipped',
    });
    expect(judge('t', ending({ status: 124 }))).toMatchObject({ outcome: 'FAIL', reason: 'timeout; duration=90s' });
    expect(judge('t', ending({ status: 127 }))).toMatchObject({ outcome: 'FAIL', reason: 'aborted' });
  });

  test('a shutdown without a debug exit (status 0) fails, as theirs does', () => {
    expect(judge('t', ending({ status: 0 }))).toMatchObject({ outcome: 'FAIL', reason: 'ended with status 0' });
  });

  test("without a summary the monitor's first line is the reason", () => {
    const result = judge('t', ending({ status: 3, errors: 'apiary: vCPU 0: KVM cannot go on\n  rax=0\n' }));
    expect(result.reason).toBe('vCPU 0: KVM cannot go on');
    expect(result.output).toContain('rax=0');
  });

  test('a signal', () => {
    expect(judge('t', ending({ status: null, signal: 'SIGSEGV' })).reason).toBe('terminated on SIGSEGV');
  });

  test('expected failures pass, unexpected passes fail, the last summary counts', () => {
    const result = judge('t', ending({ output: 'XFAIL: a\nKFAIL: b\nXPASS: c\nSUMMARY: 1 tests\nSUMMARY: 3 tests\n' }));
    expect(result.checks.map(({ outcome }) => outcome)).toEqual(['PASS', 'PASS', 'FAIL']);
    expect(result.summary).toBe('3 tests');
  });
});

test('lines and total', () => {
  const results = [passed, failed, skipped('none', 'i386 only')];
  expect(results.map(resultLine).map(plain)).toEqual([
    'PASS good (2 tests)',
    'FAIL bad (2 tests, 1 unexpected failures)',
    'SKIP none (i386 only)',
  ]);
  expect(totalLine(results)).toBe('3 tests: 1 passed, 1 failed, 1 skipped');
});

test('the last lines of a failure are shown with it, escaped; nothing of what passed', () => {
  const output = Array.from({ length: 20 }, (_, line) => `line ${line}\r`).join('\n');
  const shown = lastOutput(judge('t', ending({ status: 3, output: `${output}\n\x1b[31mred\n\n` })));
  expect(shown).toHaveLength(12);
  expect(shown.slice(-2)).toEqual(['  | line 19', '  | \\x1b[31mred']);
  expect(lastOutput(passed)).toEqual([]);
});

test('TAP: a point for each check, numbered through, # escaped', () => {
  const tap = new TapReport();
  const timeout = judge('slow', ending({ status: 124, output: 'PASS: begun\n' }));
  const text = [
    tap.begin(),
    ...[passed, failed, timeout, skipped('none', 'i386 only')].map((each) => tap.test(each)),
    tap.end(),
  ];
  expect(text.join('')).toBe(`TAP version 13
ok 1 - good: one
ok 2 - good: two
ok 3 - bad: one
not ok 4 - bad: two \\# <&>
ok 5 - slow: begun
not ok 6 - slow: timeout; duration=90s
ok 7 - none: i386 only # skip
1..7
`);
});

test('JUnit: a suite for each image, XML whatever a guest prints', async () => {
  const odd = judge(
    'odd',
    ending({ status: 3, output: 'FAIL: \u0001]]>\u001b[31m\nSUMMARY: 1 tests, 1 unexpected failures\n' }),
  );
  const xml = junitReport([passed, failed, odd, skipped('none', 'i386 only')]);
  expect(xml).toMatch(/^<\?xml/);
  expect(xml).toContain('<testsuite name="good" time="1.5" tests="3" failures="0"');
  expect(xml).toContain('name="two # &lt;&amp;&gt;"');
  expect(xml).toContain('<skipped/>');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: XML 1.0 forbids these
  expect(xml).not.toMatch(/[\x00-\x08\x0b\x0c\x0e-\x1f]/);
});

describe('baseline', () => {
  const kept = parseBaseline(formatBaseline([passed, failed]), 'kept.json');

  test('the same run is no worse', () => {
    expect(compare([passed, failed], kept)).toEqual({ worse: [], better: [] });
  });

  test('a new failed check, a test that fails now, a new test that fails', () => {
    const more = judge('bad', ending({ status: 3, output: 'FAIL: one\nFAIL: two # <&>\nSUMMARY: 2 tests\n' }));
    const slow = judge('good', ending({ status: 124 }));
    const unknown: TestResult = { ...failed, name: 'new' };
    expect(compare([more, slow, unknown], kept).worse).toEqual([
      'bad: one',
      'good (timeout; duration=90s)',
      'new: two # <&>',
    ]);
  });

  test('a test that passes now', () => {
    expect(compare([{ ...passed, name: 'bad' }], kept).better).toEqual(['bad']);
  });

  test.each(['', '[]x', '3', '{"a": 1}', '{"a": {"outcome": "MAYBE", "failed": []}}', '{"a": null}'])(
    '%j is no baseline',
    (text) => {
      expect(() => parseBaseline(text, 'b.json')).toThrow(/^b\.json is no baseline: /);
    },
  );
});

test('environment of an image: the kernel, errata by its version, the user first', () => {
  const errata = `# comment
9e3f7a296940    : 4.9    : fixed long ago
7b6b46311a85    : 99.1   : not yet
8c58be34494b    : 6.18.3 : to the digit
`;
  expect(imageEnvironment('6.18.3-generic', errata, 'NR_CPUS=3\nnonsense\nERRATA_9e3f7a296940=n\n')).toBe(`NR_CPUS=3
ERRATA_9e3f7a296940=n
KERNEL_VERSION_STRING=6.18.3-generic
KERNEL_VERSION=6
KERNEL_PATCHLEVEL=18
KERNEL_SUBLEVEL=3
KERNEL_EXTRAVERSION=generic
ERRATA_7b6b46311a85=n
ERRATA_8c58be34494b=y
`);
});
