/**
 * Machines on which nothing runs, as the host sees them: how a state is put, whosever APIC it is, the host's operations, and
 * what they change in the register pages.
 */
import { type LocalApic, REG, STATE_BYTES, TIMER_MODE } from '../apic/index.ts';
import { applyRegisters, changesOf, fillPage, readRegister } from './page.ts';
import {
  type ApicSpec,
  type Case,
  EINVAL_OUTCOME,
  type HostOperation,
  isGuestOperation,
  type Outcome,
  type PageChange,
  type RegisterValue,
} from './spec.ts';

/** The host's door to an APIC: one of ours as it is, or KVM's by ioctls. False: refused (EINVAL). */
export type StateDoor = Pick<LocalApic, 'setApicBaseFromHost' | 'apicBase' | 'setState' | 'getState'>;

/** A CPU on which nothing runs: see HostOperation. */
export interface HostCpu {
  readonly apic: StateDoor;
  settle(): number;
  events(): number;
}

/** A machine of such. */
export interface HostMachine {
  readonly cpus: readonly HostCpu[];
  signalMsi(addressLow: number, addressHigh: number, data: number): number;
  /** Told of each operation and its answer. */
  did?(operation: HostOperation, answer: number, position: number): void;
}

const scratch = new Uint8Array(STATE_BYTES);

/** An empty state, software-disabled, the APIC off in IA32_APIC_BASE: how every vCPU starts, and is left. */
export function clearState(door: StateDoor): void {
  door.setApicBaseFromHost(0, 0);
  scratch.fill(0);
  applyRegisters(scratch, [[REG.SPIV, 0xff]]);
  door.setState(scratch);
}

/**
 * Puts the state that a machine starts with.
 * @param runs a guest will run on it. KVM's PPR is older than the ISR (rule `isrCache`) until the vCPU runs, or the state is
 *   set once more: so it is, if anything is in service
 */
export function putState(door: StateDoor, spec: ApicSpec, x2apicFormat: boolean, runs: boolean): void {
  door.setApicBaseFromHost(spec.baseLow, spec.baseHigh);
  fillPage(scratch, spec, x2apicFormat);
  door.setState(scratch);
  const inService = spec.registers.some(([offset]) => offset >= REG.ISR && offset < REG.TMR);
  if (runs && inService) door.setState(scratch);
}

/** KVM_GET_LAPIC, some changes, KVM_SET_LAPIC. @returns whether it was taken */
export function changeState(door: StateDoor, registers: readonly RegisterValue[]): boolean {
  door.getState(scratch);
  applyRegisters(scratch, registers);
  return door.setState(scratch);
}

/** @returns the ioctl's answer */
function perform(machine: HostMachine, operation: HostOperation): number {
  if (operation.kind === 'msi') return machine.signalMsi(operation.addressLow, operation.addressHigh, operation.data);
  const cpu = machine.cpus[operation.cpu];
  switch (operation.kind) {
    case 'base':
      return cpu.apic.setApicBaseFromHost(operation.low, operation.high) ? 0 : EINVAL_OUTCOME;
    case 'read-base':
      return Number(cpu.apic.apicBase());
    case 'state':
      return changeState(cpu.apic, operation.registers) ? 0 : EINVAL_OUTCOME;
    case 'settle':
      return cpu.settle();
    case 'events':
      return cpu.events();
  }
}

/** Does this APIC's timer count down, or could it? Otherwise the current count is 0 at once, however small it was. */
export function counts(page: Uint8Array): boolean {
  const mode = readRegister(page, REG.LVT_TIMER) & TIMER_MODE.MASK;
  return readRegister(page, REG.TMICT) !== 0 && mode !== TIMER_MODE.TSC_DEADLINE;
}

const UNCHANGED: readonly PageChange[] = [];

/** Carries out the host's operations, and follows the register pages. Kept from machine to machine, with its buffers. */
export class PageTracker {
  readonly #nanos: () => number;
  readonly #pages: Buffer[] = [];
  readonly #now = Buffer.alloc(STATE_BYTES);
  #cpus: readonly HostCpu[] = [];

  /** @param nanos how long ago the states were put, at most */
  constructor(nanos: () => number) {
    this.#nanos = nanos;
  }

  /** A case, on a machine whose states have been put. */
  run(
    { machine: { apics, x2apicFormat }, operations }: Case,
    machine: HostMachine,
  ): Pick<Outcome, 'start' | 'results'> {
    this.#cpus = machine.cpus;
    for (const [i, spec] of apics.entries()) {
      this.#pages[i] ??= Buffer.alloc(STATE_BYTES);
      fillPage(this.#pages[i], spec, x2apicFormat);
    }
    const start = this.#changes(); // where the states differ from what was put
    const results = operations.map((operation, i) => {
      if (isGuestOperation(operation)) throw new TypeError(`no guest runs here that could do ${operation.kind}`);
      const low = perform(machine, operation);
      machine.did?.(operation, low, i);
      return { low, high: 0, fault: 0, changes: this.#changes() };
    });
    return { start, results };
  }

  /** What has changed since the last call; a current count (1 GHz, divisor 1) that has only fallen with the time has not. */
  #changes(): readonly PageChange[] {
    const now = this.#now;
    let list: PageChange[] | undefined;
    for (let cpu = 0; cpu < this.#cpus.length; cpu++) {
      const before = this.#pages[cpu];
      this.#cpus[cpu].apic.getState(now);
      if (now.equals(before)) continue;
      for (const [offset, value] of changesOf(before, now)) {
        if (offset === REG.TMCCT && counts(now) && this.#hasOnlyFallen(readRegister(before, offset), value)) continue;
        list ??= [];
        list.push([cpu, offset, value]);
        before.writeUInt32LE(value, offset);
      }
    }
    return list ?? UNCHANGED;
  }

  #hasOnlyFallen(before: number, now: number): boolean {
    return now <= before && before - now <= this.#nanos();
  }
}
