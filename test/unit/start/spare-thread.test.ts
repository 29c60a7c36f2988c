/** The thread that the package's command starts before anything else. Its programs here are the test's, what starts them is built. */
import { spawnSync } from 'node:child_process';
import { accessSync, constants, cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';

const BUNDLE = fileURLToPath(new URL('../../../dist/bundle', import.meta.url));
const THREADS = "globalThis[Symbol.for('apiary.threads')]";

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'apiary-spare-'));
  for (const name of ['main.cjs', 'worker.cjs']) cpSync(join(BUNDLE, name), join(folder, name));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** @param main what the program of `run` and `demo` does @param worker what a thread's does */
function run(main: string, worker: string, ...args: string[]) {
  const program = (what: string): string =>
    `(function (exports, require, module, __filename, __dirname, importModule) {\n${what}\n})`;
  writeFileSync(join(folder, 'machine.code.cjs'), program(main));
  writeFileSync(join(folder, 'worker.code.cjs'), program(worker));
  const { stdout, stderr, status } = spawnSync(process.execPath, [join(folder, 'main.cjs'), ...args], {
    encoding: 'utf8',
    timeout: 20_000,
  });
  return { stdout, stderr, status };
}

const COUNT = `process.stdout.write(String(${THREADS}.waiting.length));`;
const hasKvm = (() => {
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
})();

test.each([
  [1, ['run', '--script', 'x']],
  [1, ['run', '--script=x']],
  [0, ['run', 'image']],
  [hasKvm ? 1 : 0, ['run', 'image', '--cpus', '2']],
  [hasKvm ? 1 : 0, ['run', '--trace=file', 'image']],
  [hasKvm ? 1 : 0, ['demo']],
  [0, ['run', '--script', 'x', '-h']],
  [0, ['run', '--script', 'x', '--help']],
])('%d threads for %j', (count, args) => {
  expect(run(COUNT, '', ...args)).toEqual({ stdout: String(count), stderr: '', status: 0 });
});

test('one whose program cannot load is no stack trace and is known as dead', () => {
  const main = `const [{ worker, ended }] = ${THREADS}.waiting;
    worker.ref();
    ended.then((why) => process.stdout.write(why + ', ' + ${THREADS}.waiting[0].isAlive));`;
  const { stdout, stderr, status } = run(main, "throw new Error('cannot load')", 'run', '--script', 'x');
  expect([stdout, stderr, status]).toEqual(['cannot load, false', '', 0]);
});

test('the process does not wait for one that loads for ever', () => {
  const main =
    "Atomics.wait = () => process.stdout.write(' waits'); process.stdout.write('mistaken'); process.exit(2);";
  const ended = run(main, 'for (;;);', 'run', '--script', 'x');
  expect(ended).toEqual({ stdout: 'mistaken', stderr: '', status: 2 });
});

test('a host without a thread to spare is not told so before the command needs one', () => {
  const refuse = `require('node:worker_threads').Worker = class { constructor() { throw new Error('EAGAIN'); } };`;
  writeFileSync(join(folder, 'refuse.cjs'), refuse);
  const main = join(folder, 'main.cjs');
  writeFileSync(join(folder, 'machine.code.cjs'), `(function () { process.stdout.write('started'); })`);
  const { stdout, stderr, status } = spawnSync(
    process.execPath,
    ['--require', join(folder, 'refuse.cjs'), main, 'run', '--script', 'x'],
    { encoding: 'utf8', timeout: 20_000 },
  );
  expect([stdout, stderr, status]).toEqual(['started', '', 0]);
});
