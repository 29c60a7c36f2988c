/** `run --vga`: the text screen of a scripted guest on a terminal (a pty of test/kvm/cli-pty.py) and without one. */
import { execFile, spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { stripVTControlCharacters } from 'node:util';
import { describe, expect, test } from 'vitest';
import { DRAWING, runScript, scriptCommand, textOf } from './support.ts';

const PTY = fileURLToPath(new URL('../../kvm/cli-pty.py', import.meta.url));
const hasPython = spawnSync('python3', ['-c', 'import pty, termios']).status === 0;

interface Plan {
  readonly after: string;
  readonly keys?: string;
  readonly signals?: readonly string[];
}

interface Outcome {
  readonly status: number | null;
  readonly output: string;
}

function onTerminal(guest: string, parameters: readonly string[], plan: Plan): Promise<Outcome> {
  const json = JSON.stringify({ ...plan, command: scriptCommand(guest, parameters) });
  return new Promise((resolve, reject) => {
    execFile('python3', [PTY, json], { maxBuffer: 2 ** 26 }, (error, stdout) => {
      if (error) reject(error);
      else resolve(JSON.parse(stdout) as Outcome);
    });
  });
}

const utf8 = (latin1: string): string => Buffer.from(latin1, 'latin1').toString();

describe.skipIf(!hasPython)(hasPython ? 'on a terminal' : 'on a terminal (skipped: python3 is missing)', () => {
  test.each([
    ['Ctrl-C', { keys: '\x03' }, [], 130],
    ['Ctrl-A x', { keys: '\x01x' }, [], 130],
    ['SIGTERM', { signals: ['SIGTERM'] }, [], 130],
    ['SIGHUP', { signals: ['SIGHUP'] }, [], 130],
    ['--timeout', {}, ['--timeout', '3s'], 124],
  ] as const)('%s ends it, and the terminal is as before', async (_name, plan, more, status) => {
    const outcome = await onTerminal('flood-screen', ['--vga', ...more], { after: 'tick', ...plan });
    expect(outcome).toMatchObject({ status, signal: null, raw: true, restored: true, hangs: false });
    expect(outcome.output).not.toContain('screen at the end');
    expect(outcome.output).not.toContain('\x1b[?25'); // the cursor is never hidden
  });

  test('the picture is redrawn when it changes, in place', async () => {
    const { status, output } = await onTerminal('screen-key', ['--vga'], { after: 'press a key', keys: 'k' });
    expect(status).toBe(1);
    expect(stripVTControlCharacters(output)).toMatch(/^press a key\r\n.*thank you\r\n$/s);
    expect(output).toContain('\x1b[2K'); // the line is erased, not left above
  });

  test('nothing that the guest puts on its screen acts on the terminal', async () => {
    const { output } = await onTerminal('screen-hostile', ['--vga'], { after: '0;pwned', keys: '\x03' });
    const own = utf8(output).replaceAll(DRAWING, '');
    expect(own).not.toMatch(/[^\P{Cc}\r\n]/u);
    expect(own).toContain('←]0;pwned•←[2J┬¢31m');
    expect(own).toContain('☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼ !"#$');
    expect(own.split('\n').find((line) => line.includes('☺☻♥'))).toHaveLength(80 + 1); // and \r: no row is broken
  });

  test('the last picture stays, from the start address of the CRT controller, below what the guest printed', async () => {
    const { status, output } = await onTerminal('screen-page', ['--vga'], { after: 'second page' });
    expect(status).toBe(1);
    expect(stripVTControlCharacters(output)).toMatch(/a line\r\n.*and a half\r\nthe second page\r\n$/s);
    expect(output).not.toContain('first page');
  });
});

test("without a terminal the screen is shown at the end, and the output is the guest's", async () => {
  for (const parameters of [['--vga'], []]) {
    const { child, ended } = runScript('screen-page', parameters);
    const [stdout, stderr] = [textOf(child.stdout), textOf(child.stderr)];
    expect(await ended).toEqual({ status: 1, signal: null });
    expect(await stdout).toBe('a line\nand a half');
    expect(await stderr).toBe("apiary: the guest's screen at the end:\nthe second page\n");
  }
});

test('--vga and --watch are two views, and one line says so', async () => {
  const { child, ended } = runScript('hello', ['--vga', '--watch']);
  const stderr = textOf(child.stderr);
  expect(await ended).toEqual({ status: 2, signal: null });
  expect(await stderr).toMatch(/^apiary: option '--vga' cannot be used with option '--watch'.*\n$/);
});
