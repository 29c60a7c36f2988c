/** Two judges' outcomes of one case: everything in which they differ, for people. */
import { REG } from '../apic/index.ts';
import { hex } from '../hex.ts';
import { changesOf, readRegister, registerName } from './page.ts';
import {
  type CpuOutcome,
  GP,
  NMI,
  type Outcome,
  type PageChange,
  type Range,
  type Result,
  SKIPPED,
  type Taken,
} from './spec.ts';

export interface Difference {
  /** Where: 'operation 3', 'cpu 1 takes', 'cpu 0 LDR'. */
  readonly where: string;
  /** Index of the operation, -1 for the state before, beyond the last one for the end: the earliest is the one to look at. */
  readonly position: number;
  readonly expected: string;
  readonly actual: string;
}

/**
 * @param expected the reference's outcome
 * @param known the outcome that says which results time decides; the reference's own word is asked where it says nothing
 */
export function compareOutcomes(expected: Outcome, actual: Outcome, known: Outcome = actual): Difference[] {
  const differences: Difference[] = [];
  const add = (where: string, position: number, left: string, right: string): void => {
    if (left !== right) differences.push({ where, position, expected: left, actual: right });
  };
  const nanos = Math.max(expected.nanos, actual.nanos);
  compareChanges(expected.start, actual.start, nanos, (where, ...values) =>
    add(`${where} at the start`, -1, ...values),
  );
  for (const [i, left] of expected.results.entries()) {
    const right = actual.results[i];
    if (differences.length > 0 && left.changes !== undefined) break; // what follows comes of it
    if (right === undefined) continue;
    const after = `operation ${i + 1}`;
    const tolerance = known.results[i]?.tolerance ?? left.tolerance;
    if (!isSameResult(left, right, tolerance)) add(after, i, describeResult(left), describeResult(right));
    if (left.changes === undefined || right.changes === undefined) continue;
    compareChanges(left.changes, right.changes, nanos, (where, ...values) =>
      add(`${where} after ${after}`, i, ...values),
    );
  }
  const last = expected.results.length;
  add('INIT and SIPI', last, expected.events.join('; '), actual.events.join('; '));
  for (const [cpu, left] of expected.cpus.entries()) {
    const right = actual.cpus[cpu];
    if (right === undefined) continue;
    const [one, other] = [interruptsOf(left), interruptsOf(right)];
    const nmis = [left.taken.length - one.length, right.taken.length - other.length];
    add(`cpu ${cpu} ${NMI_COUNT}`, last, `${nmis[0]}`, `${nmis[1]}`);
    add(`cpu ${cpu} takes`, firstDifference(one, other), describeTaken(one), describeTaken(other));
    const end = last + 1;
    add(`cpu ${cpu} base`, end, base(left), base(right));
    const range = known.cpus[cpu]?.count ?? left.count;
    const counts = [left.page, right.page].map((page) => readRegister(page, REG.TMCCT));
    for (const [offset, value] of changesOf(left.page, right.page)) {
      if (offset === REG.TMCCT && (range === undefined || counts.every((count) => isWithin(count, range)))) continue;
      add(`cpu ${cpu} ${registerName(offset)}`, end, hex(readRegister(left.page, offset), 8), hex(value, 8));
    }
  }
  return differences.toSorted((a, b) => a.position - b.position);
}

const NMI_COUNT = 'number of NMIs';

/** Can it come of nothing but bad timing? Then it does not come again. */
export const isHostsAffair = ({ where }: Difference): boolean => where.endsWith(NMI_COUNT);

const isWithin = (count: number, { least, most }: Range): boolean => count >= least && count <= most;

function isSameResult(left: Result, right: Result, tolerance: Result['tolerance']): boolean {
  if (tolerance === 'any') return left.fault === right.fault;
  if (tolerance !== undefined && isWithin(left.low, tolerance) && isWithin(right.low, tolerance)) return true;
  return left.low === right.low && left.high === right.high && left.fault === right.fault;
}

function compareChanges(
  expected: readonly PageChange[],
  actual: readonly PageChange[],
  nanos: number,
  add: (where: string, left: string, right: string) => void,
): void {
  if (expected.length === 0 && actual.length === 0) return;
  const find = (list: readonly PageChange[], [cpu, offset]: PageChange): number | undefined =>
    list.find((each) => each[0] === cpu && each[1] === offset)?.[2];
  const missing = actual.filter((change) => find(expected, change) === undefined);
  for (const change of [...expected, ...missing]) {
    const [cpu, offset] = change;
    const [left, right] = [find(expected, change), find(actual, change)];
    if (left === right) continue;
    if (offset === REG.TMCCT && left !== undefined && right !== undefined && Math.abs(left - right) <= nanos) continue;
    add(`cpu ${cpu} ${registerName(offset)}`, describeChange(left), describeChange(right));
  }
}

const describeChange = (value: number | undefined): string => (value === undefined ? 'as before' : hex(value, 8));

const base = ({ baseHigh, baseLow }: { baseHigh: number; baseLow: number }): string =>
  `${hex(baseHigh)}:${hex(baseLow, 8)}`;

function describeResult({ low, high, fault, changes }: Result): string {
  if (fault === SKIPPED) return 'not run';
  if (fault !== 0) return fault === GP ? '#GP' : `exception ${fault}`;
  if (changes !== undefined && low < 256) return String(low); // an ioctl's answer
  return high === 0 ? hex(low) : `${hex(high)}:${hex(low, 8)}`;
}

/** When exactly an NMI comes is the host's affair: a KVM that interprets ring 0 looks for one now and then. */
const interruptsOf = ({ taken }: CpuOutcome): Taken[] => taken.filter(({ vector }) => vector !== NMI);

const describeTaken = (taken: readonly Taken[]): string =>
  taken.length === 0 ? 'nothing' : taken.map(({ vector, position }) => `${hex(vector)} in ${position + 1}`).join(', ');

function firstDifference(left: readonly Taken[], right: readonly Taken[]): number {
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const [a, b] = [left[i], right[i]];
    if (a?.vector !== b?.vector || a?.position !== b?.position) {
      return Math.min(a?.position ?? Number.POSITIVE_INFINITY, b?.position ?? Number.POSITIVE_INFINITY);
    }
  }
  return 0;
}
