/**
 * One CPU of the model: a local APIC of src/apic, with what a vCPU does around it written down in a few lines. It also knows
 * which results nobody can compare: reads of no register, and counts that fall as time goes by.
 */
import { timerDivisor } from '../apic/fields.ts';
import { APIC_EVENT, BASE, type LocalApic, PAGE_BYTES, REG, STATE_BYTES } from '../apic/index.ts';
import { MpState } from '../kvm/constants.ts';
import { counts, type HostCpu } from './host-machine.ts';
import type { ModelObserver } from './model-judge.ts';
import { msrOf } from './operations.ts';
import { applyRegisters, readRegister } from './page.ts';
import {
  type CpuOutcome,
  GP,
  type GuestOperation,
  NMI,
  type Range,
  RESET_PAGE,
  type Result,
  type Taken,
} from './spec.ts';

/** A list takes milliseconds, on a busy host perhaps seconds. */
const SLOW_NANOS = 3e9;
const NMI_LIMIT = 2;
/** As interrupts they push no error code, so the guest has them share the gate of the next vector. */
const EXCEPTIONS_WITH_CODE: ReadonlySet<number> = new Set([17, 21]);
const NO_EOI = 1;
const CR8_RESERVED = 0xfffffff0;
const SMI_PENDING = 0x100;

const NOTHING: Result = { low: 0, high: 0, fault: 0 };
const FAULT: Result = { low: 0, high: 0, fault: GP };
/** A result that is another one each time. */
const UNKNOWN: Result = { ...NOTHING, tolerance: 'any' };

const scratch = new Uint8Array(STATE_BYTES);

export class ModelCpu implements HostCpu {
  readonly apic: LocalApic;
  readonly taken: Taken[] = [];
  readonly #observer: ModelObserver;
  readonly #now: () => number;
  /** KVM_MP_STATE_*. */
  #mpState: number;
  /** Upper byte of CS. */
  #startPage = RESET_PAGE;
  #nmis = 0;
  #smi = false;
  /** The current count after the CPU's last write; undefined when it cannot be told. */
  #count: number | undefined = 0;
  /** The smallest divisor so far: how fast the count may have fallen before a later write changed it. */
  #fastest = Number.POSITIVE_INFINITY;

  /** @param now the model's clock, in nanoseconds */
  constructor(apic: LocalApic, mpState: number, observer: ModelObserver, now: () => number) {
    this.apic = apic;
    this.#mpState = mpState;
    this.#observer = observer;
    this.#now = now;
  }

  /** Does it carry out a guest's operations? */
  get runs(): boolean {
    return this.#mpState === MpState.RUNNABLE;
  }

  /** Takes INIT and SIPI. @returns in words what has become of a guest's CPU by it */
  acceptEvents(): string[] {
    const { apic } = this;
    const words: string[] = [];
    const events = apic.acceptEvents(this.#mpState === MpState.INIT_RECEIVED);
    if ((events & APIC_EVENT.INIT) !== 0) {
      if (this.runs) words.push('INIT');
      this.#observer.took?.('INIT');
      this.#nmis = 0;
      this.#smi = false;
      this.#startPage = RESET_PAGE;
      this.#mpState = apic.isBootProcessor ? MpState.RUNNABLE : MpState.INIT_RECEIVED;
    }
    if ((events & APIC_EVENT.SIPI) !== 0) {
      words.push(`SIPI ${apic.sipiVector}`);
      this.#observer.took?.('SIPI');
      this.#startPage = apic.sipiVector;
      this.#mpState = MpState.RUNNABLE;
    }
    return words;
  }

  settle(): number {
    this.acceptEvents();
    return this.#mpState | (this.#startPage << 8);
  }

  events(): number {
    this.#nmis = Math.min(this.#nmis + this.apic.takeNmis(), NMI_LIMIT);
    if (this.apic.takeSmis() > 0) this.#smi = true;
    return this.apic.nmisInState(this.#nmis) | (this.#smi ? SMI_PENDING : 0);
  }

  /** What a guest does, but for waiting: that is the clock's. */
  guest(operation: GuestOperation, position: number): Result {
    const { apic } = this;
    const { size, address, low, high } = operation;
    switch (operation.kind) {
      case 'mmio-read':
        return this.#read(address, size);
      case 'mmio-write':
        this.#write(address, size, low);
        return NOTHING;
      case 'rdmsr':
        if (!apic.readMsr(address)) return FAULT;
        if (address === msrOf(REG.TMCCT)) return this.#countResult(apic.msrLow);
        return { low: apic.msrLow, high: apic.msrHigh, fault: 0 };
      case 'wrmsr':
        return apic.writeMsr(address, low, high) ? NOTHING : FAULT;
      case 'read-cr8':
        return { ...NOTHING, low: apic.cr8 };
      case 'write-cr8':
        if ((low & CR8_RESERVED) !== 0 || high !== 0) return FAULT;
        apic.setCr8(low);
        return NOTHING;
      case 'window':
        this.#openWindow(size, position);
        return NOTHING;
      case 'read-tsc':
        return UNKNOWN;
      default:
        return NOTHING;
    }
  }

  takeNmis(position: number): void {
    for (let nmis = Math.min(this.apic.takeNmis(), NMI_LIMIT); nmis > 0; nmis--) {
      this.#observer.took?.('NMI');
      this.taken.push({ vector: NMI, position });
    }
  }

  expire(): void {
    const now = this.#now();
    if (this.apic.timerDeadlineNanos() > now) return;
    this.apic.expireTimer(now);
    this.#observer.took?.('timer interrupt');
  }

  /** After anything that may have set the timer: what its count falls from. */
  noteCount(): void {
    const page = this.apic.getState(scratch);
    const ticks = readRegister(page, REG.TMCCT);
    const deadline = this.apic.timerDeadlineNanos();
    const divisor = timerDivisor(readRegister(page, REG.TDCR));
    this.#fastest = Math.min(this.#fastest, divisor);
    // A count is taken modulo the period, so it reads as 0 while no time has gone by at all.
    if (ticks !== 0) this.#count = ticks;
    else
      this.#count = deadline === Number.POSITIVE_INFINITY ? undefined : Math.ceil((deadline - this.#now()) / divisor);
  }

  outcome(): CpuOutcome {
    const { apic, taken } = this;
    const page = apic.getState();
    const count = this.#countRange(readRegister(page, REG.TMCCT));
    applyRegisters(page, [[REG.TMCCT, count.most]]);
    return { taken, page, baseLow: apic.apicBaseLow, baseHigh: apic.apicBaseHigh, count };
  }

  /** A whole access inside the page is the page's; one that only starts in it reaches it in part, low address first. */
  #read(address: number, size: number): Result {
    const { apic } = this;
    const offset = this.#pageOffset(address);
    if (offset < 0) return { ...cut(0xffffffff, 0xffffffff, size), fault: 0 };
    const low = apic.readMmio(offset, size);
    const result = { ...cut(low, apic.mmioHigh, size), fault: 0 };
    if (!apic.mmioDefined) return { ...result, tolerance: 'any' };
    if ((offset & ~0xf) !== REG.TMCCT || !apic.mmioEnabled()) return result;
    return size === 4 ? this.#countResult(low) : { ...result, tolerance: 'any' };
  }

  #write(address: number, size: number, value: number): void {
    const offset = this.#pageOffset(address);
    if (offset >= 0) this.apic.writeMmio(offset, size, value);
  }

  /** Offset of a guest-physical address in the APIC's page, below 0 if it is not in it. */
  #pageOffset(address: number): number {
    const offset = address - this.apic.pageAddress;
    return offset < PAGE_BYTES ? offset : -1;
  }

  /** A reading of the current count. */
  #countResult(count: number): Result {
    const tolerance = this.#countRange(count);
    return { low: tolerance.most, high: 0, fault: 0, tolerance };
  }

  /** What the current count may read as, if it is `read` as long as no time goes by. */
  #countRange(read: number): Range {
    const page = this.apic.getState(scratch);
    if (!counts(page)) return { least: read, most: read };
    const count = this.#count;
    if (count === undefined) return { least: 0, most: 0xffffffff }; // run out, or about to start
    // A count that is short may have run out since, or begun anew.
    return { least: Math.max(0, Math.floor(count - SLOW_NANOS / this.#fastest)), most: count };
  }

  /** Interrupts on: everything that can be taken is, one handler after the other. */
  #openWindow(flags: number, position: number): void {
    const { apic, taken } = this;
    for (let vector = apic.acknowledge(); vector >= 0; vector = apic.acknowledge()) {
      this.#observer.took?.('interrupt');
      taken.push({ vector: EXCEPTIONS_WITH_CODE.has(vector) ? vector + 1 : vector, position });
      if ((flags & NO_EOI) !== 0) continue;
      if ((apic.apicBaseLow & BASE.EXTD) !== 0) apic.writeMsr(msrOf(REG.EOI), 0, 0);
      else this.#write(((apic.apicBaseLow & 0xfffff000) | REG.EOI) >>> 0, 4, 0);
    }
  }
}

function cut(low: number, high: number, size: number): { low: number; high: number } {
  const mask = size >= 4 ? 0xffffffff : 2 ** (size * 8) - 1;
  return { low: (low & mask) >>> 0, high: size > 4 ? high >>> 0 : 0 };
}
