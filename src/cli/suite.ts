/** `apiary suite`: other people's test images, one process each, reported as their own runner does. */
import { readFile, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { ConfigError } from '../machine/errors.ts';
import { type Baseline, compare, formatBaseline, parseBaseline } from '../suite/baseline.ts';
import { junitReport, lastOutput, resultLine, TapReport, totalLine } from '../suite/report.ts';
import type { TestResult } from '../suite/results.ts';
import { runSuite } from '../suite/suite.ts';
import type { SuiteCommandOptions } from './suite-options.ts';

export async function suite(directory: string, options: SuiteCommandOptions): Promise<number> {
  if (options.jobs < 1) throw new ConfigError('jobs 0 is out of range: give 1 or more');
  const baseline = options.baseline === undefined ? undefined : await readBaseline(options.baseline);
  const report = new Report(options);
  const abort = new AbortController();
  const interrupt = (): void => abort.abort();
  process.once('SIGINT', interrupt).once('SIGTERM', interrupt);
  const results: TestResult[] = [];
  try {
    for await (const result of runSuite({
      directory,
      filter: options.filter ?? [],
      jobs: options.jobs,
      cpu: options.cpu,
      ...(options.timeout === undefined ? {} : { timeoutSeconds: options.timeout / 1000 }),
      runArguments: runArguments(options),
      command: [process.execPath, process.argv[1] ?? ''],
      maxCpus: availableParallelism(),
      ...(await ownEnvironment()),
      abort: abort.signal,
    })) {
      results.push(result);
      report.add(result);
    }
  } catch (error) {
    if (abort.signal.aborted) return 130;
    throw error;
  } finally {
    process.off('SIGINT', interrupt).off('SIGTERM', interrupt);
  }
  await report.end(results);
  if (options.writeBaseline !== undefined) await writeFile(options.writeBaseline, formatBaseline(results));
  return verdict(results, baseline, report);
}

function runArguments({ apic, x2apicApi, behaviour }: SuiteCommandOptions): string[] {
  return [
    '--apic',
    apic,
    ...(x2apicApi === undefined ? [] : ['--x2apic-api', x2apicApi]),
    ...(behaviour === undefined ? [] : ['--behaviour', behaviour]),
  ];
}

/** @returns the exit status */
function verdict(results: readonly TestResult[], baseline: Baseline | undefined, report: Report): number {
  if (!baseline) return results.some(({ outcome }) => outcome === 'FAIL') ? 1 : 0;
  const { worse, better } = compare(results, baseline);
  for (const name of better) report.say(`better than the baseline: ${name}`);
  for (const name of worse) report.say(`worse than the baseline: ${name}`);
  return worse.length > 0 ? 1 : 0;
}

async function readBaseline(path: string): Promise<Baseline> {
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new ConfigError(`cannot read baseline ${path}: ${error.code}`);
  });
  return parseBaseline(text, path);
}

/** As their runner: a file of the user's with further lines for the images. */
async function ownEnvironment(): Promise<{ environment?: string }> {
  const path = process.env.KVM_UNIT_TESTS_ENV;
  if (!path) return {};
  try {
    return { environment: await readFile(path, 'utf8') };
  } catch {
    throw new ConfigError(`cannot read $KVM_UNIT_TESTS_ENV, ${path}`);
  }
}

/** Where the lines go: the report to stdout or its file, what is for people to stdout unless the report is there. */
class Report {
  readonly #options: SuiteCommandOptions;
  readonly #tap: TapReport | undefined;
  readonly #people: NodeJS.WritableStream;
  #text = '';

  constructor(options: SuiteCommandOptions) {
    this.#options = options;
    this.#people = options.format === 'text' || options.output !== undefined ? process.stdout : process.stderr;
    this.#tap = options.format === 'tap' ? new TapReport() : undefined;
    if (this.#tap) this.#write(this.#tap.begin());
  }

  add(result: TestResult): void {
    if (this.#tap) this.#write(this.#tap.test(result));
    this.say(resultLine(result));
    for (const line of lastOutput(result)) this.say(line);
    if (this.#options.format === 'text') this.#text += `${resultLine(result)}\n`;
  }

  say(line: string): void {
    this.#people.write(`${line}\n`);
  }

  async end(results: readonly TestResult[]): Promise<void> {
    if (this.#tap) this.#write(this.#tap.end());
    if (this.#options.format === 'junit') this.#write(junitReport(results));
    this.say(totalLine(results));
    if (this.#options.output !== undefined) await writeFile(this.#options.output, this.#text);
  }

  #write(text: string): void {
    if (this.#options.output === undefined) process.stdout.write(text);
    else this.#text += text;
  }
}
