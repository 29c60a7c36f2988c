/**
 * Guests that ask something of the monitor without end, and readers that stall: the time limit and signals end the run all the
 * same, and nothing of the guest's output is missing or doubled as far as it was read. Guests are scripts: no KVM.
 */
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runScript, textOf } from './support.ts';

let directory = '';
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'apiary-floods-'));
});
afterAll(() => rmSync(directory, { recursive: true }));

const discard: SpawnOptions = { stdio: ['ignore', 'ignore', 'pipe'] };

const FLOODS: readonly (readonly [guest: string, parameters: readonly string[]])[] = [
  ['flood-serial', []],
  ['flood-newlines', []],
  ['flood-debug-console', []],
  ['flood-debug-console', ['--debug-console', 'stderr']], // whose pipe nobody reads
  ['flood-unclaimed', []],
  ['flood-ost', []],
  ['flood-reset', ['--reboot']],
  ['flood-init', ['--reboot']],
  ['flood-broadcast', ['--cpus', '64', '--threads', '2']],
  ['flood-shouting', ['--cpus', '8', '--threads', '2']],
  ['flood-halt', ['--keep-halted']],
];

/** One flood of each kind of message. */
const SIGNALLED: ReadonlySet<string> = new Set(['flood-serial', 'flood-ost', 'flood-reset', 'flood-broadcast']);

describe.each(FLOODS)('%s', (guest, parameters) => {
  test.each([false, true])('ends at --timeout; traced: %s', async (traced) => {
    const trace = traced ? ['--trace', join(directory, `${guest}.json`)] : [];
    const { ended } = runScript(guest, [...parameters, ...trace, '--timeout', '500ms'], discard);
    expect(await ended).toEqual({ status: 124, signal: null });
    if (traced) JSON.parse(readFileSync(join(directory, `${guest}.json`), 'utf8'));
  });

  test.runIf(SIGNALLED.has(guest))('ends at SIGINT', async () => {
    const { child, ended } = runScript(guest, parameters, discard);
    setTimeout(() => child.kill('SIGINT'), 1500);
    const { status, signal } = await ended;
    expect(signal === 'SIGINT' || status === 130).toBe(true); // before the command listens to it, or after
  });
});

test('a trace that is full ends, the run does not, and a line says so', async () => {
  const path = join(directory, 'full.json');
  const limits = ['--trace', path, '--trace-limit', '1M', '--timeout', '3s'];
  const { child, ended } = runScript('flood-broadcast', ['--cpus', '8', '--threads', '2', ...limits]);
  child.stdout?.resume();
  const errors = textOf(child.stderr);
  expect(await ended).toEqual({ status: 124, signal: null });
  expect(await errors).toContain(`${path} is full (1048576 bytes); --trace-limit gives it more`);
  expect(statSync(path).size).toBeLessThan(2 ** 21);
  JSON.parse(readFileSync(path, 'utf8'));
});

/** There is some, and nobody takes it: with a listener for good, Node does not throw it away when the child ends. */
function firstOutput({ stdout }: ChildProcess): Promise<unknown> {
  return new Promise((resolve) => stdout?.on('readable', resolve));
}

/** A whole number of the guest's lines, and perhaps the beginning of the next. */
function expectLines(text: string): void {
  const lines = text.split('\n');
  const last = lines.pop() ?? '';
  expect(lines.length).toBeGreaterThan(0);
  const wrong = lines.findIndex((line, index) => line !== `line ${index}`);
  expect(wrong < 0 ? [] : lines.slice(wrong - 1, wrong + 3)).toEqual([]);
  expect(`line ${lines.length}`.startsWith(last)).toBe(true);
}

describe('a reader that stalls', () => {
  test.each([
    ['--timeout', ['--timeout', '1s'], undefined, 124],
    ['SIGINT', [], 'SIGINT', 130],
    ['SIGTERM', [], 'SIGTERM', 130],
  ] as const)('does not keep %s from ending the run', async (_name, parameters, signal, status) => {
    const { child, ended } = runScript('flood-serial', parameters);
    await firstOutput(child); // it listens to signals
    if (signal !== undefined) setTimeout(() => child.kill(signal), 500);
    expect(await ended).toEqual({ status, signal: null });
    expectLines(await textOf(child.stdout));
  });

  test('costs the monitor no memory while the guest prints on', async () => {
    const { child, ended } = runScript('flood-newlines');
    await firstOutput(child);
    const before = residentBytes(child);
    await new Promise((resolve) => setTimeout(resolve, 3000)); // 19 MB a second, when nobody held the guest back
    expect(residentBytes(child) - before).toBeLessThan(30e6);
    child.kill('SIGTERM');
    expect(await ended).toEqual({ status: 130, signal: null });
  });

  test('and comes back has everything, in order, to the end', async () => {
    const { child, ended } = runScript('count');
    await firstOutput(child);
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const text = await textOf(child.stdout);
    expect(await ended).toEqual({ status: 1, signal: null });
    expectLines(text);
    expect(text.endsWith('line 99999\n')).toBe(true);
  });

  test('and goes away ends the run, and nothing is said', async () => {
    const { child, ended } = runScript('flood-serial');
    const errors = textOf(child.stderr);
    await firstOutput(child);
    setTimeout(() => child.stdout?.destroy(), 300);
    expect([await ended, await errors]).toEqual([{ status: 12, signal: null }, '']);
  });
});

function residentBytes({ pid }: ChildProcess): number {
  const pages = readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1];
  return Number(pages) * 4096;
}

const STOPPED_TERMINAL = `
import os, pty, signal, sys, time
pid, master = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
os.read(master, 1)            # it prints; from here on nobody takes anything, as after Ctrl-S
time.sleep(1)
if os.environ.get("SEND"): os.kill(pid, int(os.environ["SEND"]))
end = time.monotonic() + 15
done = 0
while not done and time.monotonic() < end:
    time.sleep(0.05)
    done, code = os.waitpid(pid, os.WNOHANG)
if not done:
    os.kill(pid, signal.SIGKILL)
print(os.waitstatus_to_exitcode(code) if done else "hangs")
`;

describe('a terminal that takes nothing', () => {
  test.each([
    ['--timeout', 'flood-serial', ['--timeout', '1s'], {}, '124\n'],
    ['SIGTERM', 'flood-serial', [], { SEND: '15' }, '130\n'],
    ['--timeout under --watch', 'flood-serial', ['--timeout', '1s', '--watch'], {}, '124\n'],
    ['SIGTERM under --watch', 'flood-serial', ['--watch'], { SEND: '15' }, '130\n'],
    ['--timeout under --vga', 'flood-screen', ['--timeout', '1s', '--vga'], {}, '124\n'],
    ['SIGTERM under --vga', 'flood-screen', ['--vga'], { SEND: '15' }, '130\n'],
  ] as const)('does not keep %s from ending the run', async (_name, guest, parameters, environment, status) => {
    const { child } = runScript(guest, parameters, { stdio: 'ignore' });
    const { spawnargs } = child;
    child.kill('SIGKILL'); // only its command line is wanted
    const terminal = spawn('python3', ['-c', STOPPED_TERMINAL, ...spawnargs], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, ...environment },
    });
    expect(await textOf(terminal.stdout)).toBe(status);
  });
});
