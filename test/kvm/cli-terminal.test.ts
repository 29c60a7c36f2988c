/**
 * The command on a terminal (a pty that cli-pty.py makes): keys go to the guest, Ctrl-C and signals end the run, and the
 * terminal is left as it was found, whatever ended the run and whenever.
 */
import { execFile, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { assemble, COMMAND, describeKvm, EXIT_OK, GUEST_OK } from './support.ts';

const SCRIPT = fileURLToPath(new URL('./cli-pty.py', import.meta.url));
const hasPython = spawnSync('python3', ['-c', 'import pty, termios']).status === 0;

interface Plan {
  readonly image: 'spin' | 'halt' | 'echo' | 'flood';
  /** Text to wait for before anything is done. */
  readonly after?: string;
  /** Seconds to wait then. */
  readonly delay?: number;
  readonly keys?: string;
  readonly signals?: readonly string[];
  readonly gap?: number;
  readonly options?: readonly string[];
}

interface Outcome {
  readonly status: number | null;
  readonly signal: number | null;
  readonly output: string;
  readonly raw: boolean;
  readonly restored: boolean;
  readonly seconds: number;
  readonly hangs: boolean;
}

let directory = '';

function onTerminal({ image, options = [], ...plan }: Plan): Promise<Outcome> {
  const command = [process.execPath, COMMAND, 'run', join(directory, image), '--load-address', '0x1000'];
  const json = JSON.stringify({ after: null, ...plan, command: [...command, '--timeout', '60s', ...options] });
  return new Promise((resolve, reject) => {
    execFile('python3', [SCRIPT, json], (error, stdout) => {
      if (error) reject(error);
      else resolve(JSON.parse(stdout) as Outcome);
    });
  });
}

const READY = "mov $0x3f8, %dx\n mov $'R', %al\n out %al, %dx\n mov $'\\n', %al\n out %al, %dx\n";
const AFTER_START = { after: 'R\r\n' } as const;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'apiary-pty-'));
  const images = {
    spin: `${READY} 1: jmp 1b`,
    halt: `${READY} sti\n 1: hlt\n jmp 1b`,
    flood: `${READY} 1: out %al, %dx\n jmp 1b`,
    echo: `${READY}
      1: mov $0x3fd, %dx
        in %dx, %al
        test $1, %al
        jz 1b
        mov $0x3f8, %dx
        in %dx, %al
        out %al, %dx
        cmp $'q', %al
        jne 1b
        ${EXIT_OK}`,
  };
  for (const [name, source] of Object.entries(images)) writeFileSync(join(directory, name), assemble(source));
});

afterAll(() => rmSync(directory, { recursive: true }));

describeKvm('the command on a terminal', () => {
  describe.skipIf(!hasPython)(hasPython ? 'a pty' : 'a pty (skipped: python3 is missing)', () => {
    test.each([
      ['Ctrl-C while the guest spins', { image: 'spin', keys: '\x03' }, 130],
      ['Ctrl-C while the guest is halted', { image: 'halt', keys: '\x03' }, 130],
      ['Ctrl-C while the guest prints without end', { image: 'flood', keys: '\x03' }, 130],
      ['Ctrl-C under apic kernel', { image: 'halt', keys: '\x03', options: ['--apic', 'kernel', '--cpus', '3'] }, 130],
      ['SIGINT', { image: 'spin', signals: ['SIGINT'] }, 130],
      ['SIGTERM', { image: 'spin', signals: ['SIGTERM'] }, 130],
      ['SIGHUP', { image: 'halt', signals: ['SIGHUP'] }, 130],
      ['SIGINT twice at once', { image: 'spin', signals: ['SIGINT', 'SIGINT'] }, 130],
      ['SIGINT, then SIGTERM a little later', { image: 'spin', signals: ['SIGINT', 'SIGTERM'], gap: 0.02 }, 130],
      ['a guest that exits', { image: 'echo', keys: 'hi q' }, GUEST_OK],
    ] as const)('%s: the terminal was raw, is restored, and the status tells why', async (_name, plan, status) => {
      const outcome = await onTerminal({ ...AFTER_START, ...plan });
      expect(outcome).toMatchObject({ status, signal: null, raw: true, restored: true, hangs: false });
      expect(outcome.seconds).toBeLessThan(5);
    });

    test('keys reach the guest one by one, Ctrl-Z and Ctrl-D too', async () => {
      const { output } = await onTerminal({ ...AFTER_START, image: 'echo', keys: 'ab\x1a\x04\rq' });
      expect(output).toBe('R\r\nab\x1a\x04\rq');
    });

    test('a timeout restores the terminal', async () => {
      const outcome = await onTerminal({ ...AFTER_START, image: 'spin', options: ['--timeout', '500ms'] });
      expect(outcome).toMatchObject({ status: 124, restored: true, hangs: false });
    });

    test.each([0, 0.05, 0.1, 0.15, 0.2, 0.3])(
      'Ctrl-C %f s after the start: it ends, and the terminal is as before',
      async (delay) => {
        const outcome = await onTerminal({ image: 'spin', delay, keys: '\x03' });
        expect(outcome).toMatchObject({ restored: true, hangs: false });
        expect(outcome.status === 130 || outcome.signal === 2).toBe(true);
        expect(outcome.seconds).toBeLessThan(5);
        expect(outcome.output).not.toMatch(/Error|at file:/);
      },
    );

    test.each([0, 0.1, 0.2])('SIGTERM %f s after the start: it ends, and the terminal is as before', async (delay) => {
      const outcome = await onTerminal({ image: 'halt', delay, signals: ['SIGTERM'] });
      expect(outcome).toMatchObject({ restored: true, hangs: false });
      expect(outcome.status === 130 || outcome.signal === 15).toBe(true);
      expect(outcome.output).not.toMatch(/Error|at file:/);
    });
  });
});
