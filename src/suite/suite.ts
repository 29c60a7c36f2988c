/**
 * Runs kvm-unit-tests images that the user has built: reads their configuration, chooses, skips what cannot run here with
 * the reason, and runs the rest, several at once if asked. Nothing of that suite is part of this project.
 */
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { ConfigError } from '../machine/errors.ts';
import { imageEnvironment } from './environment.ts';
import { runImage } from './image-process.ts';
import { planMachine } from './qemu-params.ts';
import { judge, skipped, type TestResult } from './results.ts';
import { parseUnitTests, type UnitTest } from './unittests-config.ts';

export interface SuiteOptions {
  /** A kvm-unit-tests checkout, built; or its x86 directory. */
  readonly directory: string;
  /** Names of tests or groups; all when empty. Also runs what is marked as not to be run by default. */
  readonly filter: readonly string[];
  /** Images at once. */
  readonly jobs: number;
  /** For each test, in place of its own. */
  readonly timeoutSeconds?: number;
  /** CPU features for every image, before its own: 'host,-cx16,-xsave'. */
  readonly cpu: string;
  /** Further arguments of `apiary run`, for every image. */
  readonly runArguments: readonly string[];
  /** The program and its first arguments that run `apiary`. */
  readonly command: readonly string[];
  readonly maxCpus: number;
  /** The user's own environment for the images: text of $KVM_UNIT_TESTS_ENV. */
  readonly environment?: string;
  readonly abort: AbortSignal;
}

const ARCHITECTURE = 'x86_64';
const DEFAULT_TIMEOUT_SECONDS = 90; // theirs
const NOT_BY_DEFAULT = 'nodefault';
/** Groups that need what is not here. */
const CANNOT_RUN: ReadonlyMap<string, string> = new Map([
  ['migration', 'no migration here'],
  ['panic', 'no panic device here'],
]);

/** @yields each test's result as it ends. @throws ConfigError when the directory holds no such suite or no test matches */
export async function* runSuite(options: SuiteOptions): AsyncGenerator<TestResult> {
  const images = imageDirectory(options.directory);
  const all = parseUnitTests(await readFile(join(images, 'unittests.cfg'), 'utf8'));
  checkFilter(all, options.filter);
  const tests = choose(all, options.filter);
  const scratch = await scratchDirectory();
  try {
    const errata = await readFile(join(images, '..', 'errata.txt'), 'utf8').catch(() => '');
    const environment = join(scratch, 'environment');
    await writeFile(environment, imageEnvironment(release(), errata, options.environment));
    yield* atOnce(tests, options.jobs, (test) => runTest(test, images, environment, options));
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

function imageDirectory(directory: string): string {
  const found = [join(directory, 'x86'), directory].find((path) => existsSync(join(path, 'unittests.cfg')));
  if (found === undefined) {
    throw new ConfigError(`${directory} holds no x86/unittests.cfg: give the directory of a kvm-unit-tests build`);
  }
  return found;
}

/** @throws ConfigError for a word that is the name of no test and of no group */
function checkFilter(tests: readonly UnitTest[], filter: readonly string[]): void {
  const unknown = filter.filter((word) => choose(tests, [word]).length === 0);
  if (unknown.length > 0) throw new ConfigError(`no test matches '${unknown.join("', '")}'`);
}

async function scratchDirectory(): Promise<string> {
  try {
    return await mkdtemp(join(tmpdir(), 'apiary-suite-'));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new ConfigError(`cannot write in ${tmpdir()}: ${code}; set TMPDIR to a directory that can be written`);
  }
}

function choose(tests: readonly UnitTest[], filter: readonly string[]): UnitTest[] {
  if (filter.length === 0) return [...tests];
  return tests.filter(({ name, groups }) => filter.some((word) => word === name || groups.includes(word)));
}

async function runTest(
  test: UnitTest,
  images: string,
  environment: string,
  options: SuiteOptions,
): Promise<TestResult> {
  const { name } = test;
  const reason = reasonToSkip(test, options) ?? (await failedCheck(test.check));
  if (reason !== undefined) return skipped(name, reason);
  const image = join(images, test.file);
  if (!existsSync(image)) return skipped(name, `${test.file} has not been built`);
  const planned = planMachine(test, options.maxCpus);
  if ('skip' in planned) return skipped(name, planned.skip);
  const { cpus, features, memoryBytes, commandLine } = planned.plan;
  const args = [image, '--cpus', String(cpus), '--memory', String(memoryBytes), '--initrd', environment];
  args.push('--cpu', [options.cpu, ...features].join(','), ...options.runArguments);
  if (commandLine !== undefined) args.push(`--kernel-args=${commandLine}`);
  const timeoutSeconds = options.timeoutSeconds ?? seconds(test.timeout) ?? DEFAULT_TIMEOUT_SECONDS;
  return judge(name, await runImage(options.command, args, timeoutSeconds, options.abort));
}

function reasonToSkip({ groups, arch, accel, disabledIf }: UnitTest, { filter }: SuiteOptions): string | undefined {
  if (filter.length === 0 && groups.includes(NOT_BY_DEFAULT)) return 'test marked as manual run only';
  if (arch !== '' && arch !== ARCHITECTURE) return `${arch} only`;
  if (accel !== '' && accel !== 'kvm') return `${accel} only`;
  if (disabledIf !== '') return `it asks a shell whether to run: ${disabledIf}`;
  return groups.map((group) => CANNOT_RUN.get(group)).find((reason) => reason !== undefined);
}

/** `path=value` pairs, separated by blanks: every file must hold its value. */
async function failedCheck(check: string): Promise<string | undefined> {
  for (const pair of check.split(/\s+/).filter(Boolean)) {
    const equals = pair.indexOf('=');
    const path = pair.slice(0, equals);
    const value = pair.slice(equals + 1);
    const content = await readFile(path, 'utf8').catch(() => undefined);
    if (content?.trimEnd() !== value) return `${path} not equal to ${value}`;
  }
  return undefined;
}

/** timeout(1)'s durations. 0, which is none there, is a day. */
function seconds(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)([smhd]?)$/.exec(text);
  if (!match) return undefined;
  const unit = { s: 1, m: 60, h: 3600, d: 86_400 }[match[2] || 's'] ?? 1;
  return Number(match[1]) * unit || 86_400;
}

/** Runs `work` over `items`, at most `limit` at a time. @yields in the order in which they end */
async function* atOnce<Item, Result>(
  items: readonly Item[],
  limit: number,
  work: (item: Item) => Promise<Result>,
): AsyncGenerator<Result> {
  const running = new Map<Item, Promise<{ item: Item; result: Result }>>();
  const queue = [...items];
  for (;;) {
    while (running.size < limit) {
      const item = queue.shift();
      if (item === undefined) break;
      running.set(
        item,
        work(item).then((result) => ({ item, result })),
      );
    }
    if (running.size === 0) return;
    const { item, result } = await Promise.race(running.values());
    running.delete(item);
    yield result;
  }
}
