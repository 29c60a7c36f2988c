/** What `apiary conform` found, for people: progress as it goes, a failure with its replay, tables. */
import logUpdate from 'log-update';
import pc from 'picocolors';
import type { Layer } from '../conform/breaking.ts';
import type { Failure, Progress } from '../conform/campaign.ts';
import type { Coverage } from '../conform/coverage.ts';
import type { ConformResult, LayerResult } from './conform.ts';
import { table, wrapped } from './table.ts';

const PLAIN_PROGRESS_MILLIS = 10_000;
/** Rules still waited for, of which a progress line names the first. */
const NAMED_RULES = 3;

/** What a layer calls as it goes: a line that is rewritten on a terminal, one every ten seconds otherwise. */
export function progressLine(layer: Layer): (progress: Progress) => void {
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
  const names = missing.slice(0, NAMED_RULES).join(', ');
  const waiting = missing.length === 0 ? '' : `; not yet: ${names}${missing.length > NAMED_RULES ? ', …' : ''}`;
  const seen = `${entries.length - missing.length}/${entries.length}`;
  return `layer ${layer}: ${(millis / 1000).toFixed(1)} s, ${cases} cases (${rate}/s) on ${machines} machines, ${seen} rules seen${waiting}`;
}

/** @param again the command that runs the failing case once more */
export function failureText(layer: Layer, failure: Failure, again: string): string {
  return [
    pc.red(`layer ${layer}: different after ${(failure.foundAfterMillis / 1000).toFixed(1)} s (seed ${failure.seed})`),
    ...failure.lines,
    `again: ${again}`,
    ...(process.env.APIARY_DEBUG ? [`as a case: ${failure.json}`] : []),
  ].join('\n');
}

/** @param withCoverage with a row for each rule and path */
export function conformText({ layers, leftOut, short }: ConformResult, withCoverage: boolean): string {
  return [
    ...(withCoverage ? [coverageTable(layers)] : []),
    summary(layers),
    ...[...leftOut, ...short].map((each) => pc.yellow(wrapped(each, '  '))),
    '',
  ].join('\n');
}

function summary(layers: readonly LayerResult[]): string {
  const rows = layers.map(({ layer, cases, casesPerSecond, machines, seconds, equal, coverage }) => [
    String(layer),
    String(cases),
    String(casesPerSecond),
    String(machines),
    `${seconds.toFixed(1)} s`,
    equal ? pc.green('equal') : pc.red('different'),
    seen(coverage),
  ]);
  return table(['layer', 'cases', 'a second', 'machines', 'time', 'result', 'rules seen'], rows);
}

function coverageTable(layers: readonly LayerResult[]): string {
  const rows = layers.flatMap(({ layer, coverage }) =>
    coverage.entries.map(([name, count]) => [String(layer), name, String(count)]),
  );
  return table(['layer', 'rule or path', 'seen'], rows);
}

const seen = ({ entries, missing }: Coverage): string =>
  missing.length === 0 ? 'all' : `${entries.length - missing.length} of ${entries.length}`;
