/** A model before recorded cases: no KVM, no guest, no addon. */
import type { ApicSystemOptions } from '../apic/index.ts';
import { compareOutcomes, type Difference } from './compare.ts';
import { Coverage } from './coverage.ts';
import { describeCase, describeDifferences } from './describe.ts';
import { ModelJudge } from './model-judge.ts';
import type { Recording } from './recorded.ts';
import { RegisterObserver } from './registers/register-coverage.ts';
import { RoutingObserver } from './routing-coverage.ts';
import { type Case, isGuestOperation, runsGuest } from './spec.ts';

export interface Replayed {
  readonly lists: number;
  readonly operations: number;
  /** What the cases put before a model, of all that layers 1 and 2 look for. */
  readonly coverage: Coverage;
  /** The first case in which the model differs, in lines for people; undefined if there is none. */
  readonly failure: readonly string[] | undefined;
}

/** @param rules behaviour and broken rules; the host's properties are the recording's */
export function replay({ header, cases }: Recording, rules: ApicSystemOptions): Replayed {
  const [routing, registers] = [new RoutingObserver(rules), new RegisterObserver(header.guest)];
  const host = new ModelJudge({ ...header.host, ...rules }, routing);
  const guest = new ModelJudge({ ...header.guest, ...rules }, registers);
  let [lists, operations] = [0, 0];
  let failure: string[] | undefined;
  for (const { candidate, outcome } of cases) {
    lists++;
    operations += candidate.operations.length;
    const differences = compareOutcomes(outcome, (runsGuest(candidate) ? guest : host).carryOut(candidate));
    if (differences.length === 0) continue;
    const words = describeDifferences(differences, [`kernel ${header.kernel}`, 'model']);
    failure = [...describeCase(upTo(candidate, differences)), ...words];
    break;
  }
  const coverage = new Coverage([]);
  for (const { entries } of [routing.coverage, registers.coverage]) coverage.add(entries);
  return { lists, operations, coverage, failure };
}

/** What comes after the first difference does not matter, unless it is of the end. */
function upTo({ machine, operations }: Case, [first]: readonly Difference[]): Case {
  const end = (first?.position ?? operations.length) + 1;
  return { machine, operations: operations.every(isGuestOperation) ? operations : operations.slice(0, end) };
}
