/**
 * The memory that a monitor and the guest of guest/oplist.S share: one to one what its header comment says. All views are
 * made here; offsets are guest-physical addresses.
 */
import { GUEST_KINDS, type GuestOperation, type Result, type Taken } from '../spec.ts';

const COUNT_WORD = 0x200004 >> 2;
const POSITION_WORD = 0x200010 >> 2;
const ENTRY_WORD = 0x200014 >> 2;
const LIVE_WORD = 0x200018 >> 2;
const OPERATIONS = 0x201000;
const RESULTS = 0x300000;
const LOGS = 0x400000;
const LOG_BYTES = 4096;
const LOG_ENTRIES = 511;
const ENTRY_BYTES = 16;
/** Records of the CPUs that the monitor starts; the guest itself uses nothing up here. */
const RECORDS = 0x600000;
const RECORD_BYTES = 4096;
/** Offsets in a record: CPU_SELF, CPU_ID, CPU_INDEX, CPU_USER of guest/lib/defs.inc. */
const RECORD = { SELF: 0, ID: 8, INDEX: 12, LOG: 32 } as const;

export const DOORBELL = 0xf10;
export const TURN = 0xf14;
export const OPLIST_MEMORY_BYTES = 0x800000;

export class OplistMemory {
  readonly #words: Int32Array;
  readonly #bytes: Uint8Array;

  constructor(ram: Uint8Array) {
    this.#bytes = ram;
    this.#words = new Int32Array(ram.buffer, ram.byteOffset, ram.length >> 2);
  }

  /** Where a monitor may start a CPU; not 0 once the guest has made its records and awaits a list. */
  get entry(): number {
    return this.#words[ENTRY_WORD] >>> 0;
  }

  /** The operation that is next. */
  get position(): number {
    return Atomics.load(this.#words, POSITION_WORD);
  }

  set position(position: number) {
    Atomics.store(this.#words, POSITION_WORD, position);
  }

  /** How many of the list's operations the guest may carry out by now. */
  set live(count: number) {
    Atomics.store(this.#words, LIVE_WORD, count);
  }

  putList(operations: readonly GuestOperation[], cpus: number): void {
    const words = this.#words;
    let at = OPERATIONS >> 2;
    for (const { kind, cpu, size, address, low, high } of operations) {
      words[at] = GUEST_KINDS.indexOf(kind) | (size << 8) | (cpu << 16);
      words[at + 1] = address | 0;
      words[at + 2] = low | 0;
      words[at + 3] = high | 0;
      at += 4;
    }
    words[COUNT_WORD] = operations.length;
    for (let cpu = 0; cpu < cpus; cpu++) words[(LOGS + cpu * LOG_BYTES) >> 2] = 0;
    this.live = 0;
    this.position = 0;
  }

  result(position: number): Result {
    const at = (RESULTS + position * ENTRY_BYTES) >> 2;
    return {
      low: this.#words[at] >>> 0,
      high: this.#words[at + 1] >>> 0,
      fault: this.#words[at + 2] & 0xff,
    };
  }

  /** For an operation that no CPU will finish: its CPU is not there, or it has just lost its state to an INIT. */
  putResult(position: number, fault: number): void {
    const at = (RESULTS + position * ENTRY_BYTES) >> 2;
    this.#words.fill(0, at, at + 2);
    this.#words[at + 2] = fault;
  }

  taken(cpu: number): Taken[] {
    const at = (LOGS + cpu * LOG_BYTES) >> 2;
    const count = Math.min(this.#words[at] >>> 0, LOG_ENTRIES);
    return Array.from({ length: count }, (_, i) => ({
      vector: this.#words[at + 2 + i * 2],
      position: this.#words[at + 3 + i * 2],
    }));
  }

  /** Makes a CPU's record afresh. @returns its address */
  putRecord(cpu: number, apicId: number): number {
    const record = RECORDS + cpu * RECORD_BYTES;
    this.#bytes.fill(0, record, record + RECORD_BYTES);
    const at = record >> 2;
    this.#words[at + (RECORD.SELF >> 2)] = record;
    this.#words[at + (RECORD.ID >> 2)] = apicId;
    this.#words[at + (RECORD.INDEX >> 2)] = cpu;
    this.#words[at + (RECORD.LOG >> 2)] = LOGS + cpu * LOG_BYTES;
    return record;
  }
}

export const recordEnd = (record: number): number => record + RECORD_BYTES;
