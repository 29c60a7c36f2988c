/** Every example is run as its reader would run it, and prints what it promises; the vitest suite is suite.test.ts beside it. */
import { execFile } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { describeKvm, SLOW_HOST_MS } from '../kvm/support.ts';

const FOLDER = fileURLToPath(new URL('.', import.meta.url));
const RECORDED = new URL('../../src/conform/recorded/', import.meta.url);

async function run(name: string, ...parameters: string[]): Promise<string> {
  const args = ['--import', 'tsx', `${FOLDER}${name}.ts`, ...parameters];
  const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: 2 * SLOW_HOST_MS, cwd: FOLDER });
  return stdout;
}

const ANYWHERE: [name: string, prints: RegExp][] = [
  ['routing', /^gate off: by scan, taken by 2 of 2\ngate on: by map, taken by 1 of 2\n$/],
  ['broken-rule', /^firstAliasWins: .*\nwith it: 0x123\nwithout: 0x23\n$/],
];

const WITH_KVM: [name: string, prints: RegExp, parameters?: readonly string[]][] = [
  ['hotplug', /^started 1 mode x2apic\ndebug-exit 1\n$/],
  ['custom-device', /^POST 42\nread back 0x42\n$/],
  ['two-machines', /^kvm: .*took=.*\nhardware: .*took=/],
  ['tracing', /^debug-exit .*map: \d+/],
  ['hang-report', /^task priority\ntimeout\n.*CPU 0x0: halted/s],
  ['embedding', /hello.*\nboot: debug-exit\n$/is, ['hello', '--cpus', '1']],
];

test.each(ANYWHERE)('%s', async (name, prints) => {
  expect(await run(name)).toMatch(prints);
});

test('embedding: a mistake is one line and a status', async () => {
  const failed = await run('embedding', 'helo').catch((error: unknown) => error);
  const hasKvm = /boot: there is no guest 'helo': did you mean hello\?\n$/;
  expect(failed).toMatchObject({
    stderr: expect.stringMatching(new RegExp(`${hasKvm.source}|^boot: open /dev/kvm: .*\\n$`)),
  });
});

describeKvm('on a machine with KVM', () => {
  test.each(WITH_KVM)('%s', { timeout: 2 * SLOW_HOST_MS }, async (name, prints, parameters = []) => {
    expect(await run(name, ...parameters)).toMatch(prints);
  });
});

const recordings = hasRecordings() ? '' : ' (skipped: no recorded cases in src/conform/recorded)';
test.skipIf(recordings !== '')(`recorded-cases${recordings}`, async () => {
  expect(await run('recorded-cases')).toMatch(/\d+/);
});

function hasRecordings(): boolean {
  try {
    return readdirSync(RECORDED).some((file) => file.endsWith('.jsonl.gz'));
  } catch {
    return false;
  }
}
