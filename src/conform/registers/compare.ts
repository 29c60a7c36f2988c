/** Two judges' outcomes of one case: everything in which they differ, for people. */
import { REG, STATE_BYTES } from '../../apic/index.ts';
import { comparePages } from '../page.ts';
import { hex } from '../spec.ts';
import type { Allowed, Count } from './model.ts';
import { GP, NMI, type Outcome, type RegisterOperation, SKIPPED, type Taken } from './operations.ts';

export interface Difference {
  /** Where: 'operation 3', 'cpu 1 taken', 'cpu 0 LDR'. */
  readonly where: string;
  /** Index of the operation, or Infinity for the state at the end: the earliest is the one to look at. */
  readonly position: number;
  readonly expected: string;
  readonly actual: string;
}

/** What only time decides, as the model knows it. */
export interface Tolerance {
  readonly allowed: ReadonlyMap<number, Allowed>;
  readonly finalCounts: readonly Count[];
}

/** @param expected the reference's outcome */
export function compareOutcomes(
  operations: readonly RegisterOperation[],
  expected: Outcome,
  actual: Outcome,
  { allowed, finalCounts }: Tolerance,
): Difference[] {
  const differences: Difference[] = [];
  const add = (where: string, position: number, left: string, right: string): void => {
    if (left !== right) differences.push({ where, position, expected: left, actual: right });
  };
  for (const i of operations.keys()) {
    const [left, right] = [expected.results[i], actual.results[i]];
    if (left === undefined || right === undefined) continue;
    const rule = allowed.get(i);
    if (rule === 'any' && left.fault === right.fault) continue;
    if (rule !== undefined && rule !== 'any' && isWithin(left.low, rule) && isWithin(right.low, rule)) continue;
    add(`operation ${i + 1}`, i, describeResult(left), describeResult(right));
  }
  add('INIT and SIPI', operations.length, expected.events.join('; '), actual.events.join('; '));
  for (const [cpu, left] of expected.cpus.entries()) {
    const right = actual.cpus[cpu];
    if (right === undefined) continue;
    const nmis = [left.taken, right.taken].map((taken) => String(taken.filter(isNmi).length));
    add(`cpu ${cpu} ${NMI_COUNT}`, operations.length, nmis[0] ?? '', nmis[1] ?? '');
    const maskable = [left.taken, right.taken].map((taken) => taken.filter((each) => !isNmi(each)));
    const [one = [], other = []] = maskable;
    add(`cpu ${cpu} takes`, firstDifference(one, other), describeTaken(one), describeTaken(other));
    const end = operations.length + 1;
    add(`cpu ${cpu} base`, end, base(left.baseHigh, left.baseLow), base(right.baseHigh, right.baseLow));
    const rule = finalCounts[cpu];
    const counts = [left.page, right.page].map((page) =>
      new DataView(page.buffer, page.byteOffset, STATE_BYTES).getUint32(REG.TMCCT, true),
    );
    for (const { register, expected: one, actual: other } of comparePages(left.page, right.page)) {
      if (register === 'TMCCT' && (rule === undefined || counts.every((count) => isWithin(count, rule)))) continue;
      add(`cpu ${cpu} ${register}`, end, hex(one, 8), hex(other, 8));
    }
  }
  return differences.toSorted((a, b) => a.position - b.position);
}

const NMI_COUNT = 'number of NMIs';

/** Can it come of nothing but bad timing? Then it does not come again. */
export const isHostsAffair = ({ where }: Difference): boolean => where.endsWith(NMI_COUNT);

export const isWithin = (count: number, { least, most }: Count): boolean => count >= least && count <= most;

const base = (high: number, low: number): string => `${hex(high)}:${hex(low, 8)}`;

export function describeResult({ low, high, fault }: Outcome['results'][number]): string {
  if (fault === SKIPPED) return 'not run';
  if (fault !== 0) return fault === GP ? '#GP' : `exception ${fault}`;
  return high === 0 ? hex(low) : `${hex(high)}:${hex(low, 8)}`;
}

/** When exactly an NMI comes is the host's affair: a KVM that interprets ring 0 looks for it now and then. */
const isNmi = ({ vector }: Taken): boolean => vector === NMI;

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
