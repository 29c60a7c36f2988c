/**
 * `apiary suite` over a directory that is laid out as a kvm-unit-tests build, with our own guests for images: those of the
 * suite are nobody's to ship here.
 */
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { command, describeKvm, guestImage } from './support.ts';

const CONFIGURATION = `
[hello]
file = hello.flat
groups = quick
timeout = 20

[pair]
file = ipi.flat
smp = 2
timeout = 20

[lonely]
file = ipi.flat
groups = broken
timeout = 20

[late]
file = timer.flat
timeout = 0.05
groups = broken

[unbuilt]
file = unbuilt.flat
groups = quick

[bits32]
file = hello.flat
arch = i386
groups = quick

[manual]
file = hello.flat
groups = nodefault

[iommu]
file = hello.flat
qemu_params = -device intel-iommu
groups = quick
`;

let directory = '';
const file = (name: string): string => join(directory, name);

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'apiary-suite-test-'));
  mkdirSync(file('x86'));
  writeFileSync(file('x86/unittests.cfg'), CONFIGURATION);
  for (const name of ['hello', 'ipi', 'timer']) copyFileSync(guestImage(name), file(`x86/${name}.flat`));
});

afterAll(() => rmSync(directory, { recursive: true, force: true }));

const suite = (...parameters: string[]): ReturnType<typeof command> => command(['suite', directory, ...parameters]);

describeKvm('apiary suite', () => {
  test('runs what can run, says why it skips the rest, ends with a total', async () => {
    const { status, stdout } = await suite('--filter', 'quick,pair', '--jobs', '2');
    expect(stdout.split('\n').sort()).toEqual([
      '',
      '5 tests: 2 passed, 0 failed, 3 skipped',
      'PASS hello',
      'PASS pair',
      'SKIP bits32 (i386 only)',
      'SKIP iommu (no -device intel-iommu here)',
      'SKIP unbuilt (unbuilt.flat has not been built)',
    ]);
    expect(status).toBe(0);
  });

  test('a failure and a timeout: status 1; against a baseline that has them: 0', async () => {
    const first = await suite('--filter', 'broken', '--jobs', '2', '--write-baseline', file('baseline.json'));
    expect(first.status).toBe(1);
    expect(first.stdout).toContain('FAIL lonely (');
    expect(first.stdout).toContain('FAIL late (timeout; duration=0.05s)');
    const again = await suite('--filter', 'broken', '--jobs', '2', '--baseline', file('baseline.json'));
    expect(again).toMatchObject({ status: 0, stderr: '' });
  });

  test('worse than the baseline: status 1 and its name', async () => {
    writeFileSync(file('good.json'), '{"lonely": {"outcome": "PASS", "failed": []}}');
    const { status, stdout } = await suite('--filter', 'lonely', '--baseline', file('good.json'));
    expect(status).toBe(1);
    expect(stdout).toContain('worse than the baseline: lonely');
  });

  test('TAP on stdout, lines for people on stderr', async () => {
    const { stdout, stderr } = await suite('--filter', 'hello', '--format', 'tap');
    expect(stdout).toBe('TAP version 13\nok 1 - hello\n1..1\n');
    expect(stderr).toBe('PASS hello\n1 tests: 1 passed, 0 failed, 0 skipped\n');
  });

  test("JUnit in a file; a test named by itself runs although it is 'nodefault'; nothing is left in /tmp", async () => {
    const before = scratches();
    const { status } = await suite('--filter', 'manual', '--format', 'junit', '--output', file('suite.xml'));
    expect(status).toBe(0);
    expect(readFileSync(file('suite.xml'), 'utf8')).toContain('<testsuite name="manual"');
    expect(scratches()).toEqual(before);
  });

  test.each([
    ['a directory without images', ['suite', '/usr'], 'apiary: /usr holds no x86/unittests.cfg'],
    ['a filter that matches nothing', ['--filter', 'nonesuch'], "apiary: no test matches 'nonesuch'"],
    ['no jobs', ['--jobs', '0'], 'apiary: jobs 0 is out of range'],
    ['a baseline that is none', ['--baseline', '/dev/null'], 'apiary: /dev/null is no baseline'],
  ])('%s: one line, status 2', async (_what, parameters, message) => {
    const { status, stderr } = await (parameters[0] === 'suite' ? command(parameters) : suite(...parameters));
    expect(status).toBe(2);
    expect(stderr).toContain(message);
    expect(stderr.trimEnd().split('\n')).toHaveLength(1);
  });
});

const scratches = (): string[] => readdirSync(tmpdir()).filter((name) => /^apiary-suite-(?!test)/.test(name));
