/** `apiary conform` as a person types it: lists, mistakes, what a failure looks like. */
import { execFile } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { RULE_NAMES } from '../../src/apic/index.ts';
import { whyNoKvm } from './campaign.ts';

const command = new URL('../../dist/cli/main.js', import.meta.url).pathname;

interface Outcome {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

const conform = (...options: string[]): Promise<Outcome> =>
  new Promise((resolve) => {
    execFile(process.execPath, [command, 'conform', ...options], (error, stdout, stderr) => {
      resolve({ status: typeof error?.code === 'number' ? error.code : error === null ? 0 : 1, stdout, stderr });
    });
  });

it('--break list names every rule and the layer that shows it', async () => {
  const { status, stdout } = await conform('--break', 'list');
  expect(status).toBe(0);
  for (const rule of RULE_NAMES) expect(stdout).toContain(rule);
});

it.each([
  [['--break', 'nonsense'], "no rule 'nonsense'"],
  [['--layer', '4'], '--layer'],
  [['--seconds', 'soon'], '--seconds'],
  [['--seed', '-1'], '--seed'],
  [['--seed', '99999999999'], '--seed'],
  [['--behaviour', 'xen'], '--behaviour'],
  [['--path', 'xx'], '--path'],
])('%j is the caller’s mistake: one line, status 2', async (options, says) => {
  const { status, stderr } = await conform(...options);
  expect(status).toBe(2);
  expect(stderr).toContain(says);
  expect(stderr).not.toContain('    at ');
});

describe.skipIf(whyNoKvm() === undefined)('without KVM', () => {
  it('the layers that need it are left out, which a status of its own and a line each say', async () => {
    const { status, stdout } = await conform('--seconds', '1');
    expect(status).toBe(8);
    expect(stdout).toMatch(/\b3 .*equal/);
    expect(stdout).toMatch(/layer 1 was left out: open \/dev\/kvm/);
    expect(stdout).toMatch(/layer 2 was left out: open \/dev\/kvm/);
  });
});

it('what it prints fits 80 columns', async () => {
  for (const options of [['--break', 'list'], ['--table'], ['--layer', '3', '--seconds', '1', '--coverage']]) {
    const { stdout } = await conform(...options);
    for (const line of stdout.split('\n')) expect(line.length, line).toBeLessThanOrEqual(80);
  }
});

describe.skipIf(whyNoKvm() !== undefined)('with KVM', () => {
  it('a broken rule ends with status 1, both outcomes side by side and the command that does it again', async () => {
    const { status, stdout, stderr } = await conform('--break', 'clusterAddress', '--seconds', '10');
    expect(status).toBe(1);
    expect(stderr).toMatch(/kernel +model/);
    expect(stderr).toMatch(/again: apiary conform --layer 1 --seed \d+ --path \d+ --break clusterAddress/);
    expect(stdout).toContain('different');
  });
});
