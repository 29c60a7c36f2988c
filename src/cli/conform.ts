/**
 * `apiary conform`: the local APICs against the kernel's. Progress and failures go to stderr, the summary to stdout. Exit
 * status 0 only if everything was equal and every rule that has to be seen was seen; the last line says why it is another.
 */
import logUpdate from 'log-update';
import type { Behaviour } from '../apic/index.ts';
import { LAYERS, type Layer, layerOf, parseRule, ruleList } from '../conform/breaking.ts';
import type { Failure, Result } from '../conform/campaign.ts';
import { runLayerOnCores } from '../conform/cores.ts';
import type { Coverage } from '../conform/coverage.ts';
import type { KernelRules } from '../conform/kernel-rules.ts';
import { freshSeed } from '../conform/random.ts';
import type { LayerOptions } from '../conform/run.ts';
import { recordTo, replayFrom } from './conform-recorded.ts';
import { showHeadline } from './conform-table.ts';
import { conformText, failureText, progressLine } from './conform-text.ts';
import { printJson } from './json.ts';
import { table } from './table.ts';
import { hostsWord, wordsOf } from './without-kvm.ts';

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
  readonly json?: boolean;
  /** False: no guest writes CR8. */
  readonly cr8Writes?: boolean;
}

export interface LayerResult {
  readonly layer: Layer;
  /** Operations compared. */
  readonly cases: number;
  readonly casesPerSecond: number;
  readonly machines: number;
  readonly seconds: number;
  readonly equal: boolean;
  readonly failure: Failure | undefined;
  readonly coverage: Coverage;
}

export interface ConformResult {
  readonly seed: number;
  readonly behaviour: Behaviour;
  readonly layers: readonly LayerResult[];
  /** A line for each layer that this host cannot run. */
  readonly leftOut: readonly string[];
  /** A line for each layer that was equal and has not seen every rule. */
  readonly short: readonly string[];
  readonly status: number;
}

/** 0 and 2 are every command's: all is well, wrong options. */
const STATUS = { equal: 0, different: 1, coverageShort: 6, skipped: 8 } as const;
/** Shorter runs need not have seen everything. */
const COVERAGE_MILLIS = 5_000;

export async function conform(options: ConformOptions): Promise<number> {
  const { json = false } = options;
  if (options.break === 'list') {
    return listRules(json);
  }
  const broken = options.break === undefined ? undefined : parseRule(options.break);
  if (options.table === true) {
    return showHeadline({ rules: await modelFor(options), chosen: options.behaviour !== undefined, broken, json });
  }
  if (options.replay !== undefined) {
    const file = options.replay === true ? undefined : options.replay;
    return replayFrom({ file, behaviour: options.behaviour, broken, json });
  }
  const seed = options.seed ?? freshSeed();
  const rules = await modelFor(options);
  if (options.record !== undefined) {
    const { layer, cr8Writes = true } = options;
    return await recordTo(options.record, { seed, behaviour: rules.behaviour, layer, cr8Writes, json });
  }
  process.stderr.write(`seed ${seed}\n`);
  const layers = options.layer === undefined ? (broken === undefined ? LAYERS : [layerOf(broken)]) : [options.layer];
  const { behaviour, lacking } = rules;
  const model = { behaviour, breakRules: broken === undefined ? lacking : [...lacking, broken] };
  const result = await compare(layers, seed, model, options);
  if (json) return printJson(forPrograms(result));
  process.stdout.write(conformText(result, options.coverage ?? false));
  return result.status;
}

function listRules(json: boolean): number {
  const list = ruleList();
  if (json) return printJson({ rules: list.map(([name, shows, rule]) => ({ name, shows, rule })), status: 0 });
  process.stdout.write(`${table(['rule to break', 'shows in', 'what it says'], list)}\n`);
  return 0;
}

async function compare(
  layers: readonly Layer[],
  seed: number,
  { behaviour, breakRules }: Pick<LayerOptions, 'behaviour' | 'breakRules'>,
  options: ConformOptions,
): Promise<ConformResult> {
  const results: LayerResult[] = [];
  const leftOut: string[] = [];
  for (const layer of layers) {
    const running = runLayerOnCores({
      layer,
      seed,
      millis: options.seconds * 1000,
      path: options.path,
      behaviour,
      breakRules,
      cr8Writes: options.cr8Writes,
      onProgress: progressLine(layer),
    });
    // Among several layers one that this host cannot run is left out, loudly: layer 3 needs no KVM.
    const result = layers.length === 1 ? await running : await running.catch(unlessHosts);
    if (typeof result === 'string') {
      leftOut.push(`layer ${layer} was left out: ${result}. --replay judges without KVM`);
      continue;
    }
    if (process.stderr.isTTY) logUpdate.clear();
    results.push(resultOf(layer, result));
    const { failure } = result;
    if (failure !== undefined) process.stderr.write(`${failureText(layer, failure, again(layer, failure, options))}\n`);
  }
  const short = results.flatMap((result) => shortfall(result, options));
  return { seed, behaviour, layers: results, leftOut, short, status: statusOf(results, leftOut, short) };
}

function resultOf(layer: Layer, { cases, machines, millis, coverage, failure }: Result): LayerResult {
  const casesPerSecond = Math.round((cases / Math.max(millis, 1)) * 1000);
  const equal = failure === undefined;
  return { layer, cases, casesPerSecond, machines, seconds: millis / 1000, equal, failure, coverage };
}

function statusOf(results: readonly LayerResult[], leftOut: readonly string[], short: readonly string[]): number {
  if (results.some(({ equal }) => !equal)) return STATUS.different;
  if (leftOut.length > 0) return STATUS.skipped;
  return short.length > 0 ? STATUS.coverageShort : STATUS.equal;
}

/** What a layer should have seen and did not, in a line; none for a failure, a single case or a short look. */
function shortfall({ layer, equal, coverage, seconds }: LayerResult, { path }: ConformOptions): string[] {
  const { missing, entries } = coverage;
  if (!equal || path !== undefined || seconds * 1000 < COVERAGE_MILLIS || missing.length === 0) return [];
  return [
    `layer ${layer}: equal, but ${missing.length} of ${entries.length} rules were not seen in ${seconds.toFixed(1)} s (more --seconds help): ${missing.join(', ')}`,
  ];
}

function again(layer: Layer, { seed, path }: Failure, options: ConformOptions): string {
  const words = [`apiary conform --layer ${layer} --seed ${seed}`];
  if (path !== '') words.push(`--path ${path}`);
  if (options.behaviour !== undefined) words.push(`--behaviour ${options.behaviour}`);
  if (options.break !== undefined) words.push(`--break ${options.break}`);
  if (options.cr8Writes === false) words.push('--no-cr8-writes');
  return words.join(' ');
}

/** Coverage by name, and the failing case as a value rather than as a text of one. */
function forPrograms({
  layers,
  ...rest
}: ConformResult): Omit<ConformResult, 'layers'> & { readonly layers: readonly object[] } {
  const each = layers.map(({ coverage, failure, ...numbers }) => ({
    ...numbers,
    ...(failure === undefined ? {} : { failure: { ...failure, json: undefined, case: JSON.parse(failure.json) } }),
    seen: Object.fromEntries(coverage.entries),
  }));
  return { ...rest, layers: each };
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

function unlessHosts(error: unknown): string {
  const word = hostsWord(error);
  if (word === undefined) throw error;
  return wordsOf(word);
}
