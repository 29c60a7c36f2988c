/**
 * One case before two judges, in lockstep: after every operation the outcomes and every register page are compared, and at
 * the end what no page shows (IA32_APIC_BASE, pending INIT, SIPI, NMI, SMI).
 */
import { STATE_BYTES } from '../apic/index.ts';
import { comparePages, type RegisterDifference } from './page.ts';
import type { Case, Judge, Operation } from './spec.ts';

export interface Mismatch {
  /** Index of the operation after which the judges differed; -1 is the state before the first. */
  readonly step: number;
  /** Extra operations that the harness put at the end, if `step` is beyond the case's own. */
  readonly operation: Operation | undefined;
  readonly judges: readonly [string, string];
  /** The outcomes, if they differ. */
  readonly outcomes: readonly [number, number] | undefined;
  readonly registers: readonly ({ readonly cpu: number } & RegisterDifference)[];
}

export interface Observer {
  /** After an operation on which both judges agreed. */
  performed?(operation: Operation, outcome: number): void;
  built?(): void;
}

const left = Buffer.alloc(STATE_BYTES);
const right = Buffer.alloc(STATE_BYTES);

/** @returns the first difference, or undefined */
export function compare(
  reference: Judge,
  subject: Judge,
  { machine, operations }: Case,
  observer: Observer = {},
): Mismatch | undefined {
  const cpus = machine.apics.length;
  const judges = [reference.name, subject.name] as const;
  reference.build(machine);
  subject.build(machine);
  const registers = differingPages(reference, subject, cpus);
  if (registers.length > 0) return { step: -1, operation: undefined, judges, outcomes: undefined, registers };
  observer.built?.();
  const step = (operation: Operation, index: number): Mismatch | undefined => {
    const expected = reference.perform(operation);
    const actual = subject.perform(operation);
    const found = differingPages(reference, subject, cpus);
    if (expected === actual && found.length === 0) {
      observer.performed?.(operation, actual);
      return undefined;
    }
    const outcomes = expected === actual ? undefined : ([expected, actual] as const);
    return { step: index, operation, judges, outcomes, registers: found };
  };
  for (const [i, operation] of operations.entries()) {
    const mismatch = step(operation, i);
    if (mismatch !== undefined) return mismatch;
  }
  const eventful = operations.some((operation) => operation.kind === 'msi' && (operation.data & 0x600) !== 0);
  const last = eventful ? (['events', 'settle', 'read-base'] as const) : (['read-base'] as const);
  for (let cpu = 0; cpu < cpus; cpu++) {
    for (const kind of last) {
      const mismatch = step({ kind, cpu }, operations.length);
      if (mismatch !== undefined) return mismatch;
    }
  }
  return undefined;
}

/** Counts at 1 GHz and divisor 1. A case takes a millisecond, but a busy host has held one up for over a second. */
const LONGEST_CASE = 4_000_000_000;

/** The timer's count is compared by rule: the judge whose time stands has the highest value, and time does not fly. */
const isRunningCount = ({ register, expected, actual }: RegisterDifference): boolean =>
  register === 'TMCCT' && expected !== 0 && expected <= actual && actual - expected < LONGEST_CASE;

function differingPages(reference: Judge, subject: Judge, cpus: number): Mismatch['registers'] {
  const list: ({ readonly cpu: number } & RegisterDifference)[] = [];
  for (let cpu = 0; cpu < cpus; cpu++) {
    reference.page(cpu, left);
    subject.page(cpu, right);
    if (left.equals(right)) continue;
    const found = comparePages(left, right).filter((difference) => !isRunningCount(difference));
    list.push(...found.map((difference) => ({ cpu, ...difference })));
  }
  return list;
}
