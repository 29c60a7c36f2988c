import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';

const BUNDLE = fileURLToPath(new URL('../../../dist/bundle', import.meta.url));
const PROGRAM = (digest: string, what: string): string =>
  `(function (exports, require, module, __filename, __dirname, importModule) {//${digest}\n${what}\n})`;
const SAY = (what: string): string => `process.stdout.write(require('node:path').basename(${what}));`;
/** What a program does when it has been through a machine. */
const KEEP = "globalThis[Symbol.for('apiary.keep-code')]?.();";
const SAY_AND_KEEP = (what: string): string => `${SAY(what)}${KEEP}`;
const DIGEST = '0123456789abcdef';
const OTHER_DIGEST = 'fedcba9876543210';
const fileOf = (digest: string): string => `machine.code.cjs-${digest}-${process.versions.v8}-${process.arch}`;

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'apiary-code-cache-'));
  cpSync(join(BUNDLE, 'main.cjs'), join(folder, 'main.cjs'));
  const loaded = "const { loaded } = require('node:worker_threads').workerData;";
  writeFileSync(join(folder, 'worker.cjs'), `${loaded} Atomics.store(loaded, 0, 1); Atomics.notify(loaded, 0);`);
});
afterEach(() => rmSync(folder, { recursive: true }));

const write = (text: string, name = 'machine.code.cjs'): void => writeFileSync(join(folder, name), text);

function run(...args: string[]): { stdout: string; stderr: string; status: number | null } {
  const home = join(folder, 'home');
  const { stdout, stderr, status } = spawnSync(process.execPath, [join(folder, 'main.cjs'), ...args], {
    encoding: 'utf8',
    env: { ...process.env, HOME: home, XDG_CACHE_HOME: home },
    timeout: 20_000,
  });
  return { stdout, stderr, status };
}

const kept = (): string[] => (existsSync(join(folder, 'cache')) ? readdirSync(join(folder, 'cache')) : []);

/** Keeps a program that says "first"; then the program is one of the same length and digest that says "other". */
function keepFirst(): string {
  write(PROGRAM(DIGEST, SAY_AND_KEEP('"first"')));
  expect(run('run')).toEqual({ stdout: 'first', stderr: '', status: 0 });
  write(PROGRAM(DIGEST, SAY_AND_KEEP('"other"')));
  return join(folder, 'cache', fileOf(DIGEST));
}

test('the first run keeps its code beside the bundle, and the next one takes it', () => {
  const file = keepFirst();
  expect(kept()).toEqual([fileOf(DIGEST)]);
  expect([statSync(file).mode & 0o7777, statSync(join(folder, 'cache')).mode & 0o022]).toEqual([0o644, 0]);
  expect(run('run').stdout).toBe('first');
});

test('another build does not take it, and its own is the only one that is left', () => {
  keepFirst();
  writeFileSync(join(folder, 'cache', 'worker.code.cjs-of-another-program'), '');
  writeFileSync(join(folder, 'cache', `${fileOf(DIGEST)}.1-0`), 'of a process that was killed');
  write(PROGRAM(OTHER_DIGEST, SAY_AND_KEEP('"other"')));
  expect(run('run').stdout).toBe('other');
  expect(new Set(kept())).toEqual(new Set([fileOf(OTHER_DIGEST), 'worker.code.cjs-of-another-program']));
});

test.each([
  ['is none of V8', () => Buffer.alloc(1000, 'x')],
  ['is empty', () => Buffer.alloc(0)],
  ['is cut short', (whole: Buffer) => whole.subarray(0, whole.length / 2)],
  ['has a byte flipped in its first half', (whole: Buffer) => flip(whole, Math.floor(whole.length / 3))],
  ['has a byte flipped in its second half', (whole: Buffer) => flip(whole, Math.floor((whole.length * 2) / 3))],
])('a file that %s is as good as none, and is replaced', (_, damage) => {
  const file = keepFirst();
  const whole = readFileSync(file);
  writeFileSync(file, damage(whole));
  expect(run('run')).toEqual({ stdout: 'other', stderr: '', status: 0 });
  expect(readFileSync(file)).toHaveLength(whole.length);
  write(PROGRAM(DIGEST, SAY_AND_KEEP('"third"')));
  expect(run('run').stdout).toBe('other');
});

function flip(bytes: Buffer, at: number): Buffer {
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  return bytes;
}

test.each([
  ['that others may write', (file: string) => chmodSync(file, 0o666)],
  ['that its group may write', (file: string) => chmodSync(file, 0o664)],
  [
    'that is a link',
    (file: string) => {
      renameSync(file, `${file}.elsewhere`);
      symlinkSync(`${file}.elsewhere`, file);
    },
  ],
  [
    'that is a FIFO',
    (file: string) => {
      rmSync(file);
      spawnSync('mkfifo', [file]);
    },
  ],
])('a file %s is not taken', (_, change) => {
  change(keepFirst());
  expect(run('run')).toEqual({ stdout: 'other', stderr: '', status: 0 });
});

test('where the bundle’s folder takes no file, nothing is compiled for one and none is written elsewhere', () => {
  const ask =
    "require('node:vm').Script.prototype.createCachedData = () => { throw process.stdout.write(' compiled'); };";
  write(PROGRAM(DIGEST, `${ask}${SAY_AND_KEEP('"first"')}`));
  writeFileSync(join(folder, 'cache'), ''); // root may write anywhere, but not below a file
  expect(run('run')).toEqual({ stdout: 'first', stderr: '', status: 0 });
  expect(existsSync(join(folder, 'home'))).toBe(false);
});

test('what cannot be made leaves nothing behind', () => {
  const fail = "require('node:vm').Script.prototype.createCachedData = () => { throw new Error('no memory'); };";
  write(PROGRAM(DIGEST, `${fail}${SAY_AND_KEEP('"first"')}`));
  expect(run('run')).toEqual({ stdout: 'first', stderr: '', status: 0 });
  expect(kept()).toEqual([]);
});

test('a part that a process of the same number left is removed, and the run after that keeps its code', () => {
  mkdirSync(join(folder, 'cache'));
  const part = `__dirname + '/cache/${fileOf(DIGEST)}.' + process.pid + '-0'`;
  const leave = `require('node:fs').writeFileSync(${part}, '');`;
  write(PROGRAM(DIGEST, `if (process.argv[3]) ${leave}${SAY_AND_KEEP('"first"')}`));
  expect(run('run', 'after-it')).toEqual({ stdout: 'first', stderr: '', status: 0 });
  expect(kept()).toEqual([]);
  run('run');
  expect(kept()).toEqual([fileOf(DIGEST)]);
});

test('a run that does not say so keeps nothing, nor does another command', () => {
  write(PROGRAM(DIGEST, SAY('"mistaken"')));
  expect(run('run', '--no-such-option').stdout).toBe('mistaken');
  write(PROGRAM(DIGEST, SAY_AND_KEEP('"machine"')));
  write(PROGRAM(DIGEST, SAY_AND_KEEP('"main"')), 'main.code.cjs');
  expect(run('demo', '--help').stdout).toBe('machine');
  expect(run('rules').stdout).toBe('main');
  expect(kept()).toEqual([]);
});

test('a program finds what is around it, and can import', () => {
  write('export const name = "module";', 'beside.mjs');
  const say = SAY('__filename + "-" + name');
  write(PROGRAM(DIGEST, `importModule('./beside.mjs').then(({ name }) => { ${say} ${KEEP} });`));
  const first = run('run');
  expect(first).toEqual({ stdout: 'machine.code.cjs-module', stderr: '', status: 0 });
  expect(run('run')).toEqual(first);
});
