/**
 * `npm run mutants`: makes each mutant in a copy of this checkout and asks whether its list's tests, or command, notice.
 * This checkout is never written to.
 *
 *     npm run mutants [-- --list NAME] [--mutant TEXT] [--verbose]
 *
 * Status 0: of the mutants that change behaviour, at least nine of ten died; 1: fewer; 2: nothing to run.
 */
import { type ChildProcess, fork, spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { loop } from './loop.ts';
import { type Mutant, type MutantList, mutate } from './mutant.ts';
import { apicProtocols, machineProtocols } from './protocols.ts';
import type { RunAnswer } from './runner.ts';

const LISTS: readonly MutantList[] = [loop, apicProtocols, machineProtocols];
const COPIED = ['src', 'test', 'guest', 'native', 'package.json', 'tsconfig.json'];
const BAR = 0.9;
const FIRST_RUN_LIMIT = 10;
const SLOWNESS = 2;
/** The shell's status when there is no such program. */
const NOT_FOUND = 127;

const say = (line: string): boolean => process.stdout.write(`${line}\n`);

const { values: wanted } = parseArgs({
  options: { list: { type: 'string' }, mutant: { type: 'string' }, verbose: { type: 'boolean', default: false } },
});

const copy = mkdtempSync(join(tmpdir(), 'apiary-mutants-'));
process.once('exit', () => rmSync(copy, { recursive: true, force: true }));
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));

/** What notices: the first test that failed, or how the command ended. Undefined: nothing did. */
type Killer = (changed: readonly string[], limitMillis: number) => Promise<string | undefined>;

function commandKiller([program, ...rest]: readonly string[]): Killer {
  return async (_changed, timeout) => {
    const { status, error, stdout } = spawnSync(program, rest, {
      cwd: copy,
      timeout,
      stdio: ['ignore', 'pipe', 'ignore'],
      encoding: 'utf8',
    });
    if (error !== undefined && !('code' in error && error.code === 'ETIMEDOUT')) throw error;
    if (status === 0) return undefined;
    if (status === NOT_FOUND) throw new Error(`${program} ${rest.join(' ')}: not found`);
    return stdout.trim().split('\n').at(-1) || `status ${status ?? 'none in time'}`;
  };
}

/** A Vitest that is started again after a mutant that hangs. */
function testKiller(tests: readonly string[]): Killer {
  let runner: ChildProcess | undefined;
  process.once('exit', () => runner?.kill('SIGKILL'));
  const started = async (): Promise<ChildProcess> => {
    if (runner !== undefined) return runner;
    const child = fork(new URL('./runner.ts', import.meta.url), [copy, ...tests], {
      cwd: copy,
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    runner = child;
    await new Promise((resolve) => child.once('message', resolve));
    return child;
  };
  return async (changed, limitMillis) => {
    const child = await started();
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        child.kill('SIGKILL');
        runner = undefined;
        resolve('hangs');
      }, limitMillis);
      child.once('message', ({ passed, failure }: RunAnswer) => {
        clearTimeout(timer);
        resolve(passed ? undefined : failure);
      });
      child.send({ changed });
    });
  };
}

function makeKiller(list: MutantList): Killer {
  return 'tests' in list.killedBy ? testKiller(list.killedBy.tests) : commandKiller(list.killedBy.command);
}

interface Outcome {
  readonly mutant: Mutant;
  readonly killedBy: string | undefined;
}

async function runList(list: MutantList, mutants: readonly Mutant[]): Promise<Outcome[]> {
  const killer = makeKiller(list);
  const launched = Date.now();
  const before = await killer([], FIRST_RUN_LIMIT * list.limitSeconds * 1000);
  const limitMillis = Math.max(list.limitSeconds * 1000, SLOWNESS * (Date.now() - launched)); // a busy host

  if (before !== undefined) throw new Error(`${list.name}: fails without a mutant: ${before}`);
  const outcomes: Outcome[] = [];
  let restored: string[] = [];
  const began = Date.now();
  for (const mutant of mutants) {
    const file = join(copy, mutant.file);
    const source = readFileSync(file, 'utf8');
    writeFileSync(file, mutate(source, mutant));
    const killedBy = await killer([file, ...restored], limitMillis);
    writeFileSync(file, source);
    restored = [file];
    outcomes.push({ mutant, killedBy });
    if (wanted.verbose)
      say(`${killedBy === undefined ? 'lives' : 'dies '}  ${mutant.name}\n         ${killedBy ?? ''}`);
  }
  const counted = outcomes.filter(({ mutant }) => mutant.equivalent === undefined);
  const dead = counted.filter(({ killedBy }) => killedBy !== undefined);
  const seconds = Math.round((Date.now() - began) / 1000);
  say(
    `${list.name}: ${dead.length} of ${counted.length} mutants die, in ${seconds} s; ${outcomes.length - counted.length} change nothing`,
  );
  return outcomes;
}

const lists = LISTS.filter(({ name }) => wanted.list === undefined || name === wanted.list);
for (const name of COPIED) cpSync(name, join(copy, name), { recursive: true });
symlinkSync(join(process.cwd(), 'node_modules'), join(copy, 'node_modules'));

const outcomes: Outcome[] = [];
for (const list of lists) {
  const mutants = list.mutants.filter(({ name }) => name.includes(wanted.mutant ?? ''));
  if (mutants.length > 0) outcomes.push(...(await runList(list, mutants)));
}
for (const { mutant, killedBy } of outcomes) {
  if (mutant.equivalent === undefined && killedBy === undefined) say(`lives: ${mutant.name}`);
  if (mutant.equivalent !== undefined && killedBy !== undefined) {
    say(`dies, though it is said to change nothing: ${mutant.name}\n  ${killedBy}`);
  }
}
const counted = outcomes.filter(({ mutant }) => mutant.equivalent === undefined);
if (counted.length === 0) process.exit(2);
process.exit(counted.filter(({ killedBy }) => killedBy !== undefined).length >= BAR * counted.length ? 0 : 1);
