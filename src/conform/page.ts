/**
 * APIC pages as the harness makes and compares them: 1,024 bytes, register r at byte r, little-endian; and how a state is
 * put, whosever APIC it is.
 */
import { BASE, type LocalApic, REG, REGISTERS, STATE_BYTES, TIMER_MODE } from '../apic/index.ts';
import { hex } from '../hex.ts';
import {
  type ApicSpec,
  type Case,
  EINVAL_OUTCOME,
  type HostOperation,
  isGuestOperation,
  type MsiOperation,
  type Outcome,
  type PageChange,
  type RegisterValue,
} from './spec.ts';

const viewOf = (page: Uint8Array): DataView => new DataView(page.buffer, page.byteOffset, STATE_BYTES);

/** Writes registers over a page. */
export function applyRegisters(page: Uint8Array, registers: readonly RegisterValue[]): void {
  const view = viewOf(page);
  for (const [offset, value] of registers) view.setUint32(offset, value, true);
}

/** The page that an APIC starts with: KVM refuses one with another ID in x2APIC mode when the gate is on. */
export function fillPage(page: Uint8Array, apic: ApicSpec, x2apicFormat: boolean): void {
  page.fill(0);
  applyRegisters(page, apic.registers);
  if (x2apicFormat && (apic.baseLow & BASE.EXTD) !== 0) applyRegisters(page, [[REG.ID, apic.apicId]]);
}

const NAMES = new Map(REGISTERS.map(({ offset, name }) => [offset, name]));

export const registerName = (offset: number): string => NAMES.get(offset) ?? `+${hex(offset, 3)}`;

export const readRegister = (page: Uint8Array, offset: number): number => viewOf(page).getUint32(offset, true);

/** The host's door to an APIC: KVM's ioctls, or our class's methods. Answers are the ioctls': 0 or -errno. */
export interface StateDoor {
  setBase(low: number, high: number): number;
  base(): bigint;
  setState(page: Uint8Array): number;
  getState(page: Uint8Array): Uint8Array;
}

/** What the host may do to a vCPU besides; see HostOperation. */
export interface HostDoor extends StateDoor {
  settle(): number;
  events(): number;
}

/** Of an APIC of ours. A class: closures for each APIC of each machine cost a tenth of a campaign. */
export class ApicDoor implements StateDoor {
  readonly apic: LocalApic;

  constructor(apic: LocalApic) {
    this.apic = apic;
  }

  setBase(low: number, high: number): number {
    return this.apic.setApicBaseFromHost(low, high) ? 0 : EINVAL_OUTCOME;
  }

  base(): bigint {
    return this.apic.apicBase();
  }

  setState(page: Uint8Array): number {
    return this.apic.setState(page) ? 0 : EINVAL_OUTCOME;
  }

  getState(page: Uint8Array): Uint8Array {
    return this.apic.getState(page);
  }
}

const scratch = new Uint8Array(STATE_BYTES);

/** An empty state, software-disabled, the APIC off in IA32_APIC_BASE: how every vCPU starts, and is left. */
export function clearState(door: StateDoor): void {
  door.setBase(0, 0);
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
  door.setBase(spec.baseLow, spec.baseHigh);
  fillPage(scratch, spec, x2apicFormat);
  door.setState(scratch);
  const inService = spec.registers.some(([offset]) => offset >= REG.ISR && offset < REG.TMR);
  if (runs && inService) door.setState(scratch);
}

/** KVM_GET_LAPIC, some changes, KVM_SET_LAPIC. @returns its answer */
function changeState(door: StateDoor, registers: readonly RegisterValue[]): number {
  door.getState(scratch);
  applyRegisters(scratch, registers);
  return door.setState(scratch);
}

/** @returns the ioctl's answer */
function perform(door: HostDoor, operation: Exclude<HostOperation, MsiOperation>): number {
  switch (operation.kind) {
    case 'base':
      return door.setBase(operation.low, operation.high);
    case 'read-base':
      return Number(door.base());
    case 'state':
      return changeState(door, operation.registers);
    case 'settle':
      return door.settle();
    case 'events':
      return door.events();
  }
}

/** Every 32-bit word in which two pages differ, with what `after` has. */
export function changesOf(before: Uint8Array, after: Uint8Array): RegisterValue[] {
  const [old, now] = [viewOf(before), viewOf(after)];
  const changes: RegisterValue[] = [];
  for (let offset = 0; offset < STATE_BYTES; offset += 4) {
    const value = now.getUint32(offset, true);
    if (old.getUint32(offset, true) !== value) changes.push([offset, value]);
  }
  return changes;
}

/** Does this APIC's timer count down, or could it? Otherwise the current count is 0 at once, however small it was. */
function counts(page: Uint8Array): boolean {
  const mode = readRegister(page, REG.LVT_TIMER) & TIMER_MODE.MASK;
  return readRegister(page, REG.TMICT) !== 0 && mode !== TIMER_MODE.TSC_DEADLINE;
}

const UNCHANGED: readonly PageChange[] = [];

/** A machine on which nothing runs. */
export interface HostMachine {
  readonly doors: readonly HostDoor[];
  signalMsi(addressLow: number, addressHigh: number, data: number): number;
  /** Told of each operation and its answer. */
  did?(operation: HostOperation, answer: number, position: number): void;
}

/** Carries out the host's operations, and follows the register pages. Kept from machine to machine, with its buffers. */
export class PageTracker {
  readonly #nanos: () => number;
  readonly #pages: Buffer[] = [];
  readonly #now = Buffer.alloc(STATE_BYTES);
  #doors: readonly StateDoor[] = [];

  /** @param nanos how long ago the states were put, at most */
  constructor(nanos: () => number) {
    this.#nanos = nanos;
  }

  /** A case, on a machine whose states have been put. */
  run(
    { machine: { apics, x2apicFormat }, operations }: Case,
    machine: HostMachine,
  ): Pick<Outcome, 'start' | 'results'> {
    const { doors } = machine;
    this.#doors = doors;
    for (const [i, spec] of apics.entries()) {
      this.#pages[i] ??= Buffer.alloc(STATE_BYTES);
      fillPage(this.#pages[i], spec, x2apicFormat);
    }
    const start = this.#changes(); // where the states differ from what was put
    const results = operations.map((operation, i) => {
      if (isGuestOperation(operation)) throw new TypeError(`no guest runs here that could do ${operation.kind}`);
      const low =
        operation.kind === 'msi'
          ? machine.signalMsi(operation.addressLow, operation.addressHigh, operation.data)
          : perform(doors[operation.cpu], operation);
      machine.did?.(operation, low, i);
      return { low, high: 0, fault: 0, changes: this.#changes() };
    });
    return { start, results };
  }

  /** What has changed since the last call; a current count (1 GHz, divisor 1) that has only fallen with the time has not. */
  #changes(): readonly PageChange[] {
    let list: PageChange[] | undefined;
    for (let cpu = 0; cpu < this.#doors.length; cpu++) {
      const before = this.#pages[cpu];
      this.#doors[cpu].getState(this.#now);
      if (this.#now.equals(before)) continue;
      for (const [offset, value] of changesOf(before, this.#now)) {
        if (offset === REG.TMCCT && counts(this.#now) && this.#hasOnlyFallen(readRegister(before, offset), value))
          continue;
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
