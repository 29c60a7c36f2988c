/** A model before recorded cases: no KVM, no guest, no addon. */
import type { ApicSystemOptions } from '../apic/index.ts';
import { compareOutcomes, type Difference } from './compare.ts';
import { Coverage } from './coverage.ts';
import { describeCase, describeDifferences } from './describe.ts';
import { ModelJudge } from './model-judge.ts';
import type { Recording } from './recorded.ts';
import { RegisterObserver, registerCoverage } from './registers/register-coverage.ts';
import { ROUTING_COVERAGE, RoutingObserver } from './routing-coverage.ts';
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
  const coverage = new Coverage([...ROUTING_COVERAGE, ...registerCoverage(header.guest)]);
  const host = new ModelJudge({ ...header.host, ...rules });
  const guest = new ModelJudge({ ...header.guest, ...rules });
  host.observer = new RoutingObserver(coverage);
  guest.observer = new RegisterObserver(coverage);
  let operations = 0;
  for (const [lists, { candidate, outcome }] of cases.entries()) {
    operations += candidate.operations.length;
    const model = runsGuest(candidate) ? guest : host;
    const differences = compareOutcomes(outcome, model.carryOut(candidate));
    if (differences.length === 0) continue;
    const failure = [
      ...describeCase(upTo(candidate, differences)),
      ...describeDifferences(differences, [`kernel ${header.kernel}`, 'model']),
    ];
    return { lists: lists + 1, operations, coverage, failure };
  }
  return { lists: cases.length, operations, coverage, failure: undefined };
}

/** What comes after the first difference does not matter, unless it is of the end. */
function upTo({ machine, operations }: Case, [first]: readonly Difference[]): Case {
  const end = (first?.position ?? operations.length) + 1;
  return { machine, operations: operations.every(isGuestOperation) ? operations : operations.slice(0, end) };
}
