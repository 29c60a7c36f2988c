/**
 * `apiary conform`: the local APICs against the kernel's. Progress and failures go to stderr, the summary to stdout. Exit
 * status 0 only if everything was equal and every rule that has to be seen was seen; the last line says why it is another.
 */
import logUpdate from 'log-update';
import pc from 'picocolors';
import type { ApicSystemOptions, Behaviour, RuleName } from '../apic/index.ts';
import { LAYERS, type Layer, layerOf, parseRule, ruleList } from '../conform/breaking.ts';
import type { Progress, Result } from '../conform/campaign.ts';
import { runLayerOnCores } from '../conform/cores.ts';
import type { Coverage } from '../conform/coverage.ts';
import { type HeadlineJudge, modelHeadline } from '../conform/headline.ts';
import { headlineTable, LEGEND } from '../conform/headline-table.ts';
import type { KernelRules } from '../conform/kernel-rules.ts';
import { freshSeed } from '../conform/random.ts';
import { hex } from '../hex.ts';
import { recordTo, replayFrom } from './conform-recorded.ts';
import { table, wrapped } from './table.ts';
import { hostsWord, type WithoutKvm } from './without-kvm.ts';

export interface ConformOptions {
  readonly layer?: Layer;
  readonly seconds: number;
  readonly seed?: number;
  readonly path?: string;
  /** Absent: the rules of this host's kernel, as it says itself. */
  readonly behaviour?: Behaviour;
  readonly break?: string;
  readonly table?: boolean;
  readonly coverage?: boolean;
  readonly record?: string;
  readonly replay?: string | true;
}

/** 0 and 2 are every command's: all is well, wrong options. */
const STATUS = { equal: 0, different: 1, coverageShort: 6, skipped: 8 } as const;

const PLAIN_PROGRESS_MILLIS = 10_000;
/** Shorter runs need not have seen everything. */
const COVERAGE_MILLIS = 5_000;

export async function conform(options: ConformOptions): Promise<number> {
  if (options.break === 'list') {
    print(table(['rule to break', 'shows in', 'what it says'], ruleList()));
    return 0;
  }
  const rule = options.break === undefined ? undefined : parseRule(options.break);
  if (options.table === true) return showHeadline(options, rule);
  if (options.replay !== undefined)
    return replayFrom(options.replay === true ? undefined : options.replay, options.behaviour, rule);
  const seed = options.seed ?? freshSeed();
  const { behaviour, lacking } = await modelFor(options);
  if (options.record !== undefined) return await recordTo(options.record, seed, behaviour, options.layer);
  const layers = options.layer === undefined ? (rule === undefined ? LAYERS : [layerOf(rule)]) : [options.layer];
  process.stderr.write(`seed ${seed}\n`);
  const results: [Layer, Result][] = [];
  const skipped: string[] = [];
  for (const layer of layers) {
    const show = progressLine(layer);
    const running = runLayerOnCores({
      layer,
      seed,
      millis: options.seconds * 1000,
      path: options.path,
      behaviour,
      breakRules: rule === undefined ? lacking : [...lacking, rule],
      onProgress: show,
    });
    const result = layers.length === 1 ? await running : await running.catch(unlessHosts);
    if (typeof result === 'string') {
      skipped.push(`layer ${layer} was left out: ${result}`);
      continue;
    }
    if (process.stderr.isTTY) logUpdate.clear();
    results.push([layer, result]);
    if (result.failure !== undefined) process.stderr.write(`${describe(layer, result, options)}\n`);
  }
  if (options.coverage === true) print(coverageTable(results));
  print(summary(results));
  const short = results.flatMap((result) => shortfall(result, options));
  for (const line of [...skipped, ...short]) print(pc.yellow(wrapped(line, '  ')));
  if (results.some(([, { failure }]) => failure !== undefined)) return STATUS.different;
  if (skipped.length > 0) return STATUS.skipped;
  return short.length > 0 ? STATUS.coverageShort : STATUS.equal;
}

/** What the kernel is compared with: what was asked for, or the rules that it follows itself, which are said. */
async function modelFor({ behaviour }: ConformOptions): Promise<Pick<KernelRules, 'behaviour' | 'lacking'>> {
  if (behaviour !== undefined) return { behaviour, lacking: [] };
  try {
    const { hostKernelRules } = await import('../conform/kernel-rules.ts');
    const rules = await hostKernelRules();
    process.stderr.write(`${rules.text}\n`);
    return rules;
  } catch (error) {
    unlessHosts(error); // the layers that need KVM say so themselves
    return { behaviour: 'kvm', lacking: [] };
  }
}

/** Among several layers one that this host cannot run is left out, loudly: layer 3 needs no KVM. */
function unlessHosts(error: unknown): string {
  const word = hostsWord(error);
  if (word === undefined) throw error;
  return wordsOf(word);
}

const wordsOf = ({ why, remedy }: WithoutKvm): string => (remedy === '' ? why : `${why}: ${remedy}`);

/** Who takes what: on the model, and with the rules intact on the kernel and on our monitor as well. */
async function showHeadline(options: ConformOptions, rule: RuleName | undefined): Promise<number> {
  const { behaviour, lacking } = await modelFor(options);
  const rules = { behaviour, breakRules: rule === undefined ? lacking : [...lacking, rule] };
  const judges: HeadlineJudge[] = [];
  let model: ApicSystemOptions = rules;
  let note = '';
  try {
    // Loaded when it is asked for: the model answers without the addon.
    const { probeHost } = await import('../conform/host.ts');
    const { kernelHeadline, monitorHeadline } = await import('../conform/headline-kvm.ts');
    model = { ...probeHost(), ...rules };
    judges.push(modelHeadline(model), monitorHeadline(model));
    if (options.behaviour === undefined || behaviour === 'kvm') judges.push(kernelHeadline());
    else note = `The kernel's APICs were not asked: behaviour ${behaviour} is not theirs.`;
  } catch (error) {
    const word = hostsWord(error);
    if (word === undefined) throw error;
    for (const judge of judges.splice(0)) judge.close();
    judges.push(modelHeadline(model));
    note = `Only the model was asked. ${wordsOf(word)}`;
  }
  try {
    const { head, sections, questions, disagreements, alias } = await headlineTable(judges, model);
    for (const { title, rows } of sections) {
      print(title);
      print(table(head, rows));
    }
    print(wrapped(LEGEND));
    print(wrapped(alias));
    if (note !== '') print(wrapped(note));
    for (const { question, answers } of disagreements.slice(0, MAX_DISAGREEMENTS)) {
      const said = answers.map(([name, takers]) => `${name}: ${takers.map((id) => hex(id)).join(' ') || 'nobody'}`);
      print(pc.red(`different: ${JSON.stringify(question)}: ${said.join('; ')}`));
    }
    const names = judges.map(({ name }) => name).join(', ');
    print(
      `${questions} questions to ${names}: ${disagreements.length === 0 ? 'equal' : `${disagreements.length} different`}`,
    );
    return disagreements.length === 0 ? 0 : 1;
  } finally {
    for (const judge of judges) judge.close();
  }
}

const MAX_DISAGREEMENTS = 20;

/** What a layer should have seen and did not, in a line; none for a failure, a single case or a short look. */
function shortfall(
  [layer, { failure, coverage, millis }]: readonly [Layer, Result],
  { path }: ConformOptions,
): string[] {
  const { missing, entries } = coverage;
  if (failure !== undefined || path !== undefined || millis < COVERAGE_MILLIS || missing.length === 0) return [];
  const seconds = `${(millis / 1000).toFixed(1)} s`;
  return [
    `layer ${layer}: equal, but ${missing.length} of ${entries.length} rules were not seen in ${seconds} (more --seconds help): ${missing.join(', ')}`,
  ];
}

function describe(layer: Layer, { failure }: Result, options: ConformOptions): string {
  if (failure === undefined) return '';
  const replay = [`apiary conform --layer ${layer} --seed ${failure.seed}`];
  if (failure.path !== '') replay.push(`--path ${failure.path}`);
  if (options.behaviour !== undefined) replay.push(`--behaviour ${options.behaviour}`);
  if (options.break !== undefined) replay.push(`--break ${options.break}`);
  return [
    pc.red(`layer ${layer}: different after ${(failure.foundAfterMillis / 1000).toFixed(1)} s (seed ${failure.seed})`),
    ...failure.lines,
    `again: ${replay.join(' ')}`,
    ...(process.env.APIARY_DEBUG ? [`as a case: ${failure.json}`] : []),
  ].join('\n');
}

/** What a layer calls as it goes: a line that is rewritten on a terminal, one every ten seconds otherwise. */
function progressLine(layer: Layer): (progress: Progress) => void {
  let next = PLAIN_PROGRESS_MILLIS;
  return (progress) => {
    if (process.stderr.isTTY) {
      logUpdate(line(layer, progress));
    } else if (progress.millis >= next) {
      next += PLAIN_PROGRESS_MILLIS;
      process.stderr.write(`${line(layer, progress)}\n`);
    }
  };
}

function line(layer: Layer, { cases, machines, millis, coverage }: Progress): string {
  const { entries, missing } = coverage;
  const rate = Math.round((cases / Math.max(millis, 1)) * 1000);
  const waiting =
    missing.length === 0 ? '' : `; not yet: ${missing.slice(0, 3).join(', ')}${missing.length > 3 ? ', …' : ''}`;
  const seen = `${entries.length - missing.length}/${entries.length}`;
  return `layer ${layer}: ${(millis / 1000).toFixed(1)} s, ${cases} cases (${rate}/s) on ${machines} machines, ${seen} rules seen${waiting}`;
}

function summary(results: readonly (readonly [Layer, Result])[]): string {
  const rows = results.map(([layer, { cases, machines, millis, coverage, failure }]) => [
    String(layer),
    String(cases),
    String(Math.round((cases / Math.max(millis, 1)) * 1000)),
    String(machines),
    `${(millis / 1000).toFixed(1)} s`,
    failure === undefined ? pc.green('equal') : pc.red('different'),
    seen(coverage),
  ]);
  return table(['layer', 'cases', 'a second', 'machines', 'time', 'result', 'rules seen'], rows);
}

function coverageTable(results: readonly (readonly [Layer, Result])[]): string {
  const rows = results.flatMap(([layer, { coverage }]) =>
    coverage.entries.map(([name, count]) => [String(layer), name, String(count)]),
  );
  return table(['layer', 'rule or path', 'seen'], rows);
}

const seen = ({ entries, missing }: Coverage): string =>
  missing.length === 0 ? 'all' : `${entries.length - missing.length} of ${entries.length}`;

const print = (text: string): void => {
  process.stdout.write(`${text}\n`);
};
