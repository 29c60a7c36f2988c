/** The command's standard streams: a terminal is the guest's from its first word on; output that goes nowhere is one line. No KVM. */
import { spawn, spawnSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { scriptCommand, textOf } from './support.ts';

const COMMAND = fileURLToPath(new URL('../../../dist/cli/main.js', import.meta.url));

/** Whether the terminal is raw when the first byte comes; then Ctrl-C is typed. */
const LOOKS = `
import os, pty, sys, termios
pid, master = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
os.read(master, 1)
raw = not termios.tcgetattr(master)[3] & termios.ICANON
os.write(master, b"\\x03")
try:
    while os.read(master, 4096): pass
except OSError: pass
print(raw, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
`;

test('a terminal is raw before the guest says anything', async () => {
  const looking = spawn('python3', ['-c', LOOKS, ...scriptCommand('sleep')], { stdio: ['ignore', 'pipe', 'inherit'] });
  expect(await textOf(looking.stdout)).toBe('True 130\n');
});

test('what is piped in reaches the guest', async () => {
  const [program = '', ...parameters] = scriptCommand('echo');
  const child = spawn(program, parameters, { stdio: 'pipe' });
  child.stdin.end('hello, q');
  expect(await textOf(child.stdout)).toBe('R\nhello, q');
});

test.each([['rules'], ['route', '--to', '0', '--cpus', '2']])(
  '%s: output that cannot be written is one line',
  (...args) => {
    const full = openSync('/dev/full', 'w');
    const { status, stderr } = spawnSync(process.execPath, [COMMAND, ...args], {
      stdio: ['ignore', full, 'pipe'],
      encoding: 'utf8',
    });
    closeSync(full);
    expect([status, stderr]).toEqual([4, 'apiary: cannot write to standard output: ENOSPC\n']);
  },
);
