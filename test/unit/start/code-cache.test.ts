import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';

const BUNDLE = fileURLToPath(new URL('../../../dist/bundle', import.meta.url));
const PROGRAM = (digest: string, what: string): string =>
  `(function (exports, require, module, __filename, __dirname, importModule) {//${digest}\n${what}\n})`;
const SAY = (what: string): string => `process.stdout.write(require('node:path').basename(${what}));`;
const DIGEST = '0123456789abcdef';

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
  const env = { ...process.env, XDG_CACHE_HOME: join(folder, 'home') };
  const { stdout, stderr, status } = spawnSync(process.execPath, [join(folder, 'main.cjs'), ...args], {
    encoding: 'utf8',
    env,
  });
  return { stdout, stderr, status };
}

const kept = (where = 'cache'): string[] => (existsSync(join(folder, where)) ? readdirSync(join(folder, where)) : []);

test('the first run keeps its code beside the bundle, and the next one takes it', () => {
  write(PROGRAM(DIGEST, SAY('"first"')));
  expect(run('run')).toEqual({ stdout: 'first', stderr: '', status: 0 });
  expect(kept()).toEqual([`${DIGEST}-${process.versions.v8}-${process.arch}`]);
  // A text of the same length and digest: what runs is the code that was kept.
  write(PROGRAM(DIGEST, SAY('"other"')));
  expect(run('run').stdout).toBe('first');
});

test('another build does not take it', () => {
  write(PROGRAM(DIGEST, SAY('"first"')));
  run('run');
  write(PROGRAM('fedcba9876543210', SAY('"other"')));
  expect(run('run').stdout).toBe('other');
  expect(kept()).toHaveLength(2);
});

test('a file that is none of V8 is as good as none, and is replaced', () => {
  write(PROGRAM(DIGEST, SAY('"first"')));
  run('run');
  const [name = ''] = kept();
  writeFileSync(join(folder, 'cache', name), 'x'.repeat(1000));
  expect(run('run')).toEqual({ stdout: 'first', stderr: '', status: 0 });
  write(PROGRAM(DIGEST, SAY('"other"')));
  expect(run('run').stdout).toBe('first');
});

test('where the bundle’s folder takes no file, the user’s own cache has it', () => {
  write(PROGRAM(DIGEST, SAY('"first"')));
  writeFileSync(join(folder, 'cache'), ''); // root may write anywhere, but not below a file
  expect(run('run').stdout).toBe('first');
  expect(kept('home/apiary')).toHaveLength(1);
  write(PROGRAM(DIGEST, SAY('"other"')));
  expect(run('run').stdout).toBe('first');
});

test('other commands keep nothing', () => {
  write(PROGRAM(DIGEST, SAY('"machine"')));
  write(PROGRAM(DIGEST, SAY('"main"')), 'main.code.cjs');
  expect(run('demo', '--help').stdout).toBe('machine');
  expect(run('rules').stdout).toBe('main');
  expect(kept()).toEqual([]);
});

test('a program finds what is around it, and can import', () => {
  write('export const name = "module";', 'beside.mjs');
  write(PROGRAM(DIGEST, `importModule('./beside.mjs').then(({ name }) => { ${SAY('__filename + "-" + name')} });`));
  const first = run('run');
  expect(first).toEqual({ stdout: 'machine.code.cjs-module', stderr: '', status: 0 });
  expect(run('run')).toEqual(first);
});
