/**
 * The last part of shrinking. fast-check shrinks a recipe; this shortens the case that it means, which a recipe cannot
 * express: it drops operations, CPUs and registers, one at a time, as long as the case still fails.
 */
import type { Case, Operation, RegisterValue } from './spec.ts';

/** @param deadline in milliseconds of Date.now(): when to be content with what there is */
export function minimise(start: Case, fails: (candidate: Case) => boolean, deadline: number): Case {
  let best = start;
  let shorter: Case | undefined = start;
  while (shorter !== undefined) {
    best = shorter;
    shorter = undefined;
    for (const candidate of candidates(best)) {
      if (Date.now() > deadline) return best;
      if (fails(candidate)) {
        shorter = candidate;
        break;
      }
    }
  }
  return best;
}

function* candidates({ machine, operations }: Case): Generator<Case> {
  for (let length = operations.length >> 1; length > 0; length >>= 1) {
    yield { machine, operations: operations.slice(0, operations.length - length) };
  }
  for (const i of operations.keys()) yield { machine, operations: operations.toSpliced(i, 1) };
  for (const i of machine.apics.keys()) {
    const kept = operations.flatMap((operation) => withoutCpu(operation, i));
    if (machine.apics.length > 1) {
      yield { machine: { ...machine, apics: machine.apics.toSpliced(i, 1) }, operations: kept };
    }
  }
  for (const [i, apic] of machine.apics.entries()) {
    for (const at of apic.registers.keys()) {
      const plainer = { ...apic, registers: apic.registers.toSpliced(at, 1) };
      yield { machine: { ...machine, apics: machine.apics.with(i, plainer) }, operations };
    }
  }
  for (const [i, operation] of operations.entries()) {
    if (operation.kind !== 'state' || operation.registers.length < 2) continue;
    for (const at of operation.registers.keys()) {
      const registers: readonly RegisterValue[] = operation.registers.toSpliced(at, 1);
      yield { machine, operations: operations.with(i, { ...operation, registers }) };
    }
  }
}

/** The operation on a machine that lacks CPU `gone`: the later CPUs move up, and what was done to it is dropped. */
function withoutCpu(operation: Operation, gone: number): Operation[] {
  if (operation.kind === 'msi' || operation.cpu < gone) return [operation];
  return operation.cpu === gone ? [] : [{ ...operation, cpu: operation.cpu - 1 }];
}
