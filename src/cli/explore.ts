/**
 * `apiary explore`: every interleaving of each scenario. The explored code is the compiled one beside this bundle, a file
 * for each source file, so that a finding names lines of the source. Needs no KVM and no addon.
 */
import { writeFileSync } from 'node:fs';
import Table from 'cli-table3';
import pc from 'picocolors';
import type { AnyScenario, Move, Replay, Search, SearchOptions, SearchResult } from '../explore/index.ts';
import { ConfigError } from '../machine/errors.ts';
import { PACKAGE_ROOT } from '../package-root.ts';
import type { ExploreCommandOptions } from './explore-options.ts';

type Explore = typeof import('../explore/index.ts');

const BROKEN_STATUS = 1;
const DEEP_PREEMPTIONS = 3;

export async function explore(names: readonly string[], options: ExploreCommandOptions): Promise<number> {
  process.setSourceMapsEnabled(true); // before the code is loaded: its lines are the source's then
  const module = (await import(new URL('dist/explore/index.js', PACKAGE_ROOT).href)) as Explore;
  const scenarios = choose(module, names);
  if (options.list === true) {
    print(list(scenarios));
    return 0;
  }
  const preemptions = options.deep === true ? Math.max(options.preemptions, DEEP_PREEMPTIONS) : options.preemptions;
  const search = { preemptions, memory: options.memory };
  if (options.schedule !== undefined)
    return new Show(module, only(scenarios), options).schedule(options.schedule, search);
  if (options.trace !== undefined) only(scenarios);
  return exploreAll(module, scenarios, options, search);
}

function exploreAll(
  module: Explore,
  scenarios: readonly AnyScenario[],
  options: ExploreCommandOptions,
  search: SearchOptions,
): number {
  const begun = performance.now();
  let states = 0;
  let broken = 0;
  for (const scenario of scenarios) {
    const searching = new module.Search(scenario, search);
    const result = searching.run();
    states += result.states;
    const mark = result.finding === undefined ? pc.green('holds ') : pc.red('BROKEN');
    print(`${mark} ${scenario.name.padEnd(WIDTH)} ${counts(result)}`);
    if (result.finding === undefined) continue;
    broken++;
    new Show(module, scenario, options).finding(searching, result.finding, options.memory);
  }
  const seconds = ((performance.now() - begun) / 1000).toFixed(1);
  const what =
    search.preemptions === Number.POSITIVE_INFINITY
      ? 'any number of preemptions'
      : `up to ${search.preemptions} preemptions`;
  print(
    `${scenarios.length} scenarios, ${what}, ${search.memory === 'tso' ? "x86's store buffers" : 'sequential consistency'}: ` +
      `${states.toLocaleString('en')} states, ${seconds} s. ${broken === 0 ? 'Every schedule holds.' : `${broken} broken.`}`,
  );
  return broken === 0 ? 0 : BROKEN_STATUS;
}

/** Shows one schedule of one scenario. */
class Show {
  readonly #module: Explore;
  readonly #scenario: AnyScenario;
  readonly #options: ExploreCommandOptions;

  constructor(module: Explore, scenario: AnyScenario, options: ExploreCommandOptions) {
    this.#module = module;
    this.#scenario = scenario;
    this.#options = options;
  }

  finding(search: Search, finding: NonNullable<SearchResult['finding']>, asked: 'tso' | 'sc'): void {
    const { memory, preemptions, schedule } = finding;
    const replay = this.#replay(search, schedule, memory);
    this.#show(search, replay);
    const needs =
      asked === 'tso' && memory === 'tso' ? ' It takes a store buffer: sequential consistency hides it.' : '';
    const text = this.#module.scheduleText(replay.schedule);
    const how = ` --preemptions ${preemptions}${memory === 'sc' ? ' --memory sc' : ''}`;
    print(`${preemptions} preemption${preemptions === 1 ? '' : 's'}.${needs}`);
    print(`Again: apiary explore ${this.#scenario.name}${how}${text === '' ? '' : ` --schedule ${text}`}\n`);
  }

  /** As a person gives it. Steps are counted between shared words, which a search finds. */
  schedule(text: string, options: SearchOptions): number {
    const search = new this.#module.Search(this.#scenario, options);
    const moves = this.#module.parseSchedule(text, search.subject.threadNames.length);
    search.run();
    const replay = this.#replay(search, moves, options.memory);
    this.#show(search, replay);
    return replay.why === '' ? 0 : BROKEN_STATUS;
  }

  #replay(search: Search, moves: readonly Move[], memory: 'tso' | 'sc'): Replay {
    return new this.#module.Replayer(search.subject, search.touched, memory === 'tso').replay(moves);
  }

  #show({ subject }: Search, { rows, why }: Replay): void {
    const { promise, from } = this.#scenario;
    print(this.#module.scheduleTable(rows, subject.threadNames, subject.memory));
    print(`${from} says: ${promise}`);
    print(why === '' ? pc.green('It holds in this schedule.') : `${pc.red('Here:')} ${why}.`);
    const { trace } = this.#options;
    if (trace === undefined) return;
    try {
      writeFileSync(trace, this.#module.scheduleTrace(rows, subject.threadNames, subject.memory));
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      throw new ConfigError(`cannot write trace ${trace}: ${code}; give a file that can be written`);
    }
  }
}

const WIDTH = 30;

const counts = ({ isComplete, states, ends, runs, sharedWords, millis }: SearchResult): string =>
  `${states.toLocaleString('en')} states, ${ends.toLocaleString('en')} ends, ${sharedWords} shared words, ` +
  `${runs} runs of the code, ${Math.round(millis)} ms${isComplete ? ', complete' : ''}`;

function choose({ SCENARIOS }: Explore, names: readonly string[]): readonly AnyScenario[] {
  if (names.length === 0) return SCENARIOS;
  return names.map((name) => {
    const found = SCENARIOS.find((scenario) => scenario.name === name);
    if (found === undefined) throw new ConfigError(`there is no scenario '${name}'; apiary explore --list names them`);
    return found;
  });
}

function only(scenarios: readonly AnyScenario[]): AnyScenario {
  const [scenario] = scenarios;
  if (scenario !== undefined && scenarios.length === 1) return scenario;
  throw new ConfigError('--schedule and --trace are for one scenario; name it');
}

function list(scenarios: readonly AnyScenario[]): string {
  const table = new Table({
    head: ['scenario', 'threads', 'what must hold', 'says'],
    colWidths: [WIDTH, 18, 64, 18],
    wordWrap: true,
    style: { head: [], border: [] },
  });
  for (const { name, threads, promise, from } of scenarios)
    table.push([name, Object.keys(threads).join(', '), promise, from]);
  return table.toString();
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
