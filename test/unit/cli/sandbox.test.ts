/**
 * The sandbox, from the inside: a scripted guest is code in the worker's thread, as one that broke out would be. Which system
 * calls a run needs is seen by the other guests, which run under it as without.
 */
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Machine } from 'apiary';
import { describe, expect, test } from 'vitest';
import { GUESTS, runScript, textOf } from './support.ts';

const ATTEMPTS = [
  ...['open for reading', 'open for writing', 'read /proc/self', 'list a directory', 'look at a path'],
  ...['delete a file', 'execute', 'signal another process', 'signal itself by kill'],
];
const REFUSED = `${ATTEMPTS.map((attempt) => `${attempt}: EPERM`).join('\n')}\nescape: over\n`;

describe('run --sandbox', () => {
  test('a guest that broke out can open, execute and signal nothing', async () => {
    const { child, ended } = runScript('escape', ['--sandbox']);
    expect(await textOf(child.stdout)).toBe(REFUSED);
    expect(await ended).toEqual({ status: 1, signal: null });
    expect(existsSync('/tmp/apiary-escaped')).toBe(false);
  });

  test.each([
    ['hello', [], 1],
    ['flood-serial', ['--timeout', '1s'], 124],
    ['flood-reset', ['--reboot', '--timeout', '1s'], 124],
    ['flood-shouting', ['--cpus', '8', '--threads', '2', '--timeout', '1s', '--trace', 'TRACE'], 124],
    ['spin', ['--hotplug', '0x123', '--timeout', '1s'], 124],
    ['spin', ['--apic', 'kernel', '--cpus', '3', '--timeout', '1s'], 124],
  ] as const)('%s %j runs under it', async (guest, parameters, status) => {
    const directory = mkdtempSync(join(tmpdir(), 'apiary-sandbox-'));
    const trace = join(directory, 'trace.json');
    try {
      const real = parameters.map((word) => (word === 'TRACE' ? trace : word));
      const { child, ended } = runScript(guest, ['--sandbox', ...real]);
      child.stdout?.resume();
      const errors = await textOf(child.stderr);
      expect(await ended).toEqual({ status, signal: null });
      expect(errors).toMatch(status === 124 ? /^apiary: the guest ran longer than --timeout allows\n/ : /^$/);
      expect(errors).not.toMatch(/EPERM|bug in apiary/);
      if (guest === 'flood-shouting') expect(statSync(trace).size).toBeGreaterThan(1000);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});

async function escapeFrom(sandbox: boolean): Promise<string> {
  const machine = await Machine.create({ script: `${GUESTS}?escape`, sandbox });
  let text = '';
  machine.on('serial', (chunk) => {
    text += String(chunk);
  });
  await machine.load(new Uint8Array([0xf4]), { loadAddress: 0x1000 });
  await machine.run();
  return text;
}

describe('a Machine with `sandbox`', () => {
  test.each(['user', 'kernel'] as const)('sandboxes each of its threads once (%s APICs)', async (apic) => {
    await using machine = await Machine.create({ script: `${GUESTS}?hello`, sandbox: true, cpus: 3, threads: 2, apic });
    await machine.load(new Uint8Array([0xf4]), { loadAddress: 0x1000 });
    expect(await machine.run()).toEqual({ reason: 'debug-exit', status: 1 });
  });

  test('sandboxes its own threads, and no later machine gets one of them', async () => {
    expect(await escapeFrom(true)).toBe(REFUSED);
    expect(statSync('/etc/passwd').size).toBeGreaterThan(0); // this thread is as it was
    expect(await escapeFrom(false)).toContain('open for reading: done\n');
    rmSync('/tmp/apiary-escaped', { force: true });
  });
});
