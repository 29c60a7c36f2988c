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
  const start = performance.now();
  const cpus = machine.apics.length;
  const judges = [reference.name, subject.name] as const;
  reference.build(machine);
  subject.build(machine);
  const registers = differingPages(reference, subject, cpus, start);
  if (registers.length > 0) return { step: -1, operation: undefined, judges, outcomes: undefined, registers };
  observer.built?.();
  const step = (operation: Operation, index: number): Mismatch | undefined => {
    const expected = reference.perform(operation);
    const actual = subject.perform(operation);
    const found = differingPages(reference, subject, cpus, start);
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

/** A case takes a millisecond. When the host holds one up for longer than this, a timer (1.9 s at least) may run out. */
const LONGEST_MILLIS = 1000;

/**
 * The timer's count (1 GHz, divisor 1) goes down in the kernel while it stands still in the model. It cannot have gone
 * further than the time since the case began.
 */
function isRunningCount({ register, expected, actual }: RegisterDifference, start: number): boolean {
  const millis = performance.now() - start;
  return register === 'TMCCT' && (millis > LONGEST_MILLIS || (expected <= actual && actual - expected <= millis * 1e6));
}

function differingPages(reference: Judge, subject: Judge, cpus: number, start: number): Mismatch['registers'] {
  const list: ({ readonly cpu: number } & RegisterDifference)[] = [];
  for (let cpu = 0; cpu < cpus; cpu++) {
    reference.page(cpu, left);
    subject.page(cpu, right);
    if (left.equals(right)) continue;
    const found = comparePages(left, right).filter((difference) => !isRunningCount(difference, start));
    list.push(...found.map((difference) => ({ cpu, ...difference })));
  }
  return list;
}
