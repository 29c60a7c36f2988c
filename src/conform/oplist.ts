/**
 * The dialogue with guest/oplist.S: lists of operations that a guest carries out, each on the vCPU it names. The layout of
 * its memory is drawn in that file; here it is written and read. An operation's outcome is what was read, the exception it
 * raised and how many interrupts its CPU has taken by then.
 */
import { fileURLToPath } from 'node:url';

export const OPLIST_IMAGE = fileURLToPath(new URL('../../guest/build/oplist.elf', import.meta.url));

export const KIND = {
  NOTHING: 0,
  MMIO_READ: 1,
  MMIO_WRITE: 2,
  RDMSR: 3,
  WRMSR: 4,
  READ_CR8: 5,
  WRITE_CR8: 6,
  WINDOW: 7,
  WAIT: 10,
} as const;

export interface GuestOperation {
  readonly kind: number;
  /** Index of the CPU that does it; 0 is the boot CPU. */
  readonly cpu: number;
  /** MMIO: bytes. Window: 1 = the handlers send no EOI. */
  readonly size: number;
  /** Guest-physical address or MSR. */
  readonly address: number;
  /** Value to write, unsigned halves; wait: microseconds in `low`. */
  readonly low: number;
  readonly high: number;
}

export interface GuestOutcome {
  readonly low: number;
  readonly high: number;
  /** Vector of the exception, 0 for none. */
  readonly fault: number;
  /** How many interrupts this CPU has taken since the list began. */
  readonly interrupts: number;
}

/** An interrupt that a CPU took, and at which operation. */
export interface Taken {
  readonly vector: number;
  readonly position: number;
}

export interface GuestRun {
  readonly outcomes: readonly GuestOutcome[];
  /** By CPU. */
  readonly taken: readonly (readonly Taken[])[];
}

/** Carries out lists. CPUs keep their state from one list to the next. */
export interface GuestJudge {
  readonly name: string;
  run(operations: readonly GuestOperation[]): GuestRun | Promise<GuestRun>;
  close(): void | Promise<void>;
}

export const DOORBELL = 0xf10;
const HEADER = 0x200000 >> 2;
const OPERATIONS = 0x201000 >> 2;
const RESULTS = 0x300000 >> 2;
const LOGS = 0x400000 >> 2;
const LOG_WORDS = 1024;
const LOG_ENTRIES = 511;
const WORDS_EACH = 4;
export const MAX_LIST = 32_768;
/** What a judge's guest needs of memory, in bytes. */
export const GUEST_MEMORY = 0x600000;

/** The guest's memory as both ends of the dialogue see it. */
export class Dialogue {
  readonly #words: Int32Array;

  constructor(memory: Uint8Array<ArrayBuffer | SharedArrayBuffer>) {
    this.#words = new Int32Array(memory.buffer, memory.byteOffset, memory.byteLength >> 2);
  }

  /** 0 until the guest is up. */
  get cpus(): number {
    return Atomics.load(this.#words, HEADER + 3);
  }

  /** Sequence of the list that is done. */
  get finished(): number {
    return Atomics.load(this.#words, HEADER + 2);
  }

  /** Index of the next operation. */
  get position(): number {
    return Atomics.load(this.#words, HEADER + 4);
  }

  /** @param ticksPerMicro TSC ticks: what the guest's waits count */
  post(sequence: number, operations: readonly GuestOperation[], ticksPerMicro: number): void {
    const words = this.#words;
    if (operations.length > MAX_LIST) throw new RangeError(`a list has up to ${MAX_LIST} operations`);
    for (const [i, { kind, cpu, size, address, low, high }] of operations.entries()) {
      const at = OPERATIONS + i * WORDS_EACH;
      words[at] = kind | (size << 8) | (cpu << 16);
      words[at + 1] = address;
      words[at + 2] = kind === KIND.WAIT ? low * ticksPerMicro : low;
      words[at + 3] = kind === KIND.WAIT ? 0 : high;
    }
    words[HEADER + 1] = operations.length;
    words[HEADER + 4] = 0;
    Atomics.store(words, HEADER, sequence);
  }

  collect(count: number): GuestRun {
    const words = this.#words;
    const word = (at: number): number => words[at] ?? 0;
    const outcomes = Array.from({ length: count }, (_, i) => {
      const at = RESULTS + i * WORDS_EACH;
      const last = word(at + 2);
      return { low: word(at) >>> 0, high: word(at + 1) >>> 0, fault: last & 0xff, interrupts: last >>> 16 };
    });
    const taken = Array.from({ length: this.cpus }, (_, cpu) => {
      const log = LOGS + cpu * LOG_WORDS;
      const entries = Math.min(word(log), LOG_ENTRIES);
      return Array.from({ length: entries }, (__, i) => ({
        vector: word(log + 2 + i * 2),
        position: word(log + 3 + i * 2),
      }));
    });
    return { outcomes, taken };
  }
}
