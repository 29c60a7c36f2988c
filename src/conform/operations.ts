/** What can be told of an operation before it is carried out. */
import { DELIVERY, MSR, PAGE_BYTES, REG } from '../apic/index.ts';
import { type Case, type GuestOperation, type Operation, runsGuest } from './spec.ts';

/** The MSR of a register in x2APIC mode. */
export const msrOf = (register: number): number => MSR.X2APIC_FIRST + (register >> 4);

/** SMI, NMI, INIT, SIPI and the odd ones between them: what they leave behind no register page shows. */
const EVENTFUL_MODES = 0x600;

/** The delivery mode of an operation that may write ICR, or -1. */
export function deliveryMode({ kind, address, low }: GuestOperation): number {
  const toIcr =
    (kind === 'mmio-write' && ((address % PAGE_BYTES) & ~0xf) === REG.ICR) ||
    (kind === 'wrmsr' && address === msrOf(REG.ICR));
  return toIcr ? (low >>> 8) & 7 : -1;
}

/** May this make a CPU take INIT or SIPI? Whoever carries it out then looks after every CPU before going on. */
export function mayStartCpus(operation: GuestOperation): boolean {
  const mode = deliveryMode(operation);
  return (mode === DELIVERY.INIT || mode === DELIVERY.STARTUP) && !operation.unattended;
}

/** May this send an NMI? Whoever carries it out then lets the sender take its own before it goes on. */
export const maySendNmi = (operation: GuestOperation): boolean => deliveryMode(operation) === DELIVERY.NMI;

/** Does it leave NMIs, SMIs, INITs or SIPIs behind that no register page shows? */
export function isEventful(operation: Operation): boolean {
  if (operation.kind === 'msi') return (operation.data & EVENTFUL_MODES) !== 0;
  return (operation.kind === 'mmio-write' || operation.kind === 'wrmsr') && (operation.low & EVENTFUL_MODES) !== 0;
}

/** A host's case with a look, at its end, at what no page shows: IA32_APIC_BASE, and INIT, SIPI, NMI, SMI if there may be any. */
export function withLooks(candidate: Case): Case {
  if (runsGuest(candidate)) return candidate;
  const { machine, operations } = candidate;
  const last = operations.some(isEventful) ? (['events', 'settle', 'read-base'] as const) : (['read-base'] as const);
  const looks = machine.apics.flatMap((_, cpu) => last.map((kind) => ({ kind, cpu })));
  return { machine, operations: [...operations, ...looks] };
}

/** The operations in the pieces that shrinking may drop. */
export function unitsOf<Kind extends Operation>(operations: readonly Kind[]): Kind[][] {
  const units: Kind[][] = [];
  let unit: number | undefined;
  for (const operation of operations) {
    const its = 'unit' in operation ? operation.unit : undefined;
    if (its !== undefined && its === unit) units.at(-1)?.push(operation);
    else units.push([operation]);
    unit = its;
  }
  return units;
}

/** The operations on a machine that lacks CPU `gone`: the later CPUs move up, and what was done to it is dropped. */
export function withoutCpu<Kind extends Operation>(operations: readonly Kind[], gone: number): Kind[] {
  return operations.flatMap((operation) => {
    if (!('cpu' in operation) || operation.cpu < gone) return [operation];
    return operation.cpu === gone ? [] : [{ ...operation, cpu: operation.cpu - 1 }];
  });
}

/** Events in an order that does not depend on who looked after which CPU first. */
export const byName = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
