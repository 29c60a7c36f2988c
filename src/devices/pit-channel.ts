/**
 * One counter of an 8254 (Intel 8254 data sheet, order number 231164-005), computed from the tick it is asked at.
 *
 * Deviations: a count is loaded at the tick it is written (the chip needs one CLK more), and gate changes act at once.
 * A count written while mode 2 runs takes effect at the end of the period, in mode 3 of the half period, in modes 1 and 5
 * at the next trigger.
 *
 *     mode   starts     OUT                                       gate low
 *     0      load       low, high after N ticks                   pauses
 *     1      gate edge  low for N ticks                           nothing
 *     2      load       high, low in the last tick of N           pauses, OUT high; edge restarts
 *     3      load       high (N+1)/2 ticks, low the rest of N     pauses, OUT high; edge restarts
 *     4      load       high, low for one tick after N            pauses
 *     5      gate edge  as 4                                      nothing
 */

/** RW field of the control word. */
export const ACCESS = { LATCH: 0, LOW: 1, HIGH: 2, WORD: 3 } as const;
const STATUS = { OUT: 0x80, NULL_COUNT: 0x40 } as const;

export interface ChannelState {
  mode: number;
  bcd: boolean;
  access: number;
  gate: boolean;
  /** The count in force, 1 to 0x10000 (10,000 in BCD), and the one that waits (0: none). */
  count: number;
  nextCount: number;
  /** The tick at which the count that waits takes effect; null while it waits for the gate. */
  nextLoad: number | null;
  /** Tick at which the count was loaded; null before. While paused: how many ticks had passed, else -1. */
  start: number | null;
  pausedAfter: number;
  lowByte: number;
  writeHigh: boolean;
  readHigh: boolean;
  /** Latched count, and how many bytes of it are to be read: 0 when nothing is latched. */
  latch: number;
  latchedBytes: number;
  /** -1: none. */
  latchedStatus: number;
}

export class PitChannel {
  #state: ChannelState;

  constructor(gate: boolean) {
    this.#state = {
      mode: 0,
      bcd: false,
      access: ACCESS.WORD,
      gate,
      count: 0x10000,
      nextCount: 0,
      nextLoad: null,
      start: null,
      pausedAfter: -1,
      lowByte: 0,
      writeHigh: false,
      readHigh: false,
      latch: 0,
      latchedBytes: 0,
      latchedStatus: -1,
    };
  }

  get gate(): boolean {
    return this.#state.gate;
  }

  save(): ChannelState {
    return { ...this.#state };
  }

  restore(state: Readonly<ChannelState>): void {
    this.#state = { ...state };
  }

  /** The control word's access (1-3), mode (6 and 7 are 2 and 3) and BCD fields for this counter. */
  setMode(access: number, mode: number, bcd: boolean): void {
    this.#state.access = access;
    this.#state.mode = mode > 5 ? mode - 4 : mode;
    this.#state.bcd = bcd;
    this.#state.start = null;
    this.#state.pausedAfter = -1;
    this.#state.nextCount = 0;
    this.#state.nextLoad = null;
    this.#state.writeHigh = false;
    this.#state.readHigh = false;
    this.#state.latchedBytes = 0;
    this.#state.latchedStatus = -1;
  }

  setGate(gate: boolean, tick: number): void {
    if (gate === this.#state.gate) return;
    this.#settle(tick);
    this.#state.gate = gate;
    switch (this.#state.mode) {
      case 0:
      case 4:
        this.#pauseOrResume(tick);
        break;
      case 2:
      case 3:
        if (!gate) this.#pauseOrResume(tick);
        else if (this.#state.pausedAfter >= 0) this.#load(tick);
        break;
      default:
        if (gate) this.#load(tick);
    }
  }

  /** A byte written to the counter's port. */
  write(value: number, tick: number): void {
    this.#settle(tick);
    if (this.#state.access !== ACCESS.WORD) {
      this.#writeCount(this.#state.access === ACCESS.LOW ? value : value << 8, tick);
      return;
    }
    this.#state.writeHigh = !this.#state.writeHigh;
    if (!this.#state.writeHigh) {
      this.#writeCount(this.#state.lowByte | (value << 8), tick);
      return;
    }
    this.#state.lowByte = value;
    if (this.#state.mode === 0) {
      this.#state.start = null; // the first byte stops mode 0
      this.#state.pausedAfter = -1;
    }
  }

  /** A byte read from the counter's port: latched status, latched count or the count as it runs. */
  read(tick: number): number {
    if (this.#state.latchedStatus >= 0) {
      const status = this.#state.latchedStatus;
      this.#state.latchedStatus = -1;
      return status;
    }
    const latched = this.#state.latchedBytes > 0;
    const value = latched ? this.#state.latch : this.counter(tick);
    if (latched) this.#state.latchedBytes--;
    let high = this.#state.access === ACCESS.HIGH;
    if (this.#state.access === ACCESS.WORD) {
      high = this.#state.readHigh;
      this.#state.readHigh = !this.#state.readHigh;
    }
    return high ? value >> 8 : value & 0xff;
  }

  /** A latched count stays until it is read; latching again before that does nothing. */
  latchCount(tick: number): void {
    if (this.#state.latchedBytes > 0) return;
    this.#state.latch = this.counter(tick);
    this.#state.latchedBytes = this.#state.access === ACCESS.WORD ? 2 : 1;
    this.#state.readHigh = false;
  }

  latchStatus(tick: number): void {
    if (this.#state.latchedStatus >= 0) return;
    const out = this.out(tick) ? STATUS.OUT : 0;
    const isNull =
      this.#state.nextCount > 0 || (this.#state.start === null && this.#state.pausedAfter < 0) ? STATUS.NULL_COUNT : 0;
    this.#state.latchedStatus =
      out | isNull | (this.#state.access << 4) | (this.#state.mode << 1) | (this.#state.bcd ? 1 : 0);
  }

  /** The counting element as the guest reads it, 0-0xffff. */
  counter(tick: number): number {
    this.#settle(tick);
    const modulus = this.#state.bcd ? 10_000 : 0x10000;
    const passed = this.#passed(tick);
    let value = this.#state.count;
    if (this.#state.mode === 2) {
      value -= passed % this.#state.count;
    } else if (this.#state.mode === 3) {
      const phase = passed % this.#state.count;
      const half = (this.#state.count + 1) >> 1;
      value = (this.#state.count & ~1) - 2 * (phase < half ? phase : phase - half);
    } else {
      value -= passed % modulus;
    }
    value = ((value % modulus) + modulus) % modulus;
    return this.#state.bcd ? toBcd(value) : value;
  }

  /** The OUT pin. */
  out(tick: number): boolean {
    this.#settle(tick);
    if (this.#state.start === null && this.#state.pausedAfter < 0) return this.#state.mode !== 0;
    const passed = this.#passed(tick);
    switch (this.#state.mode) {
      case 0:
      case 1:
        return passed >= this.#state.count;
      case 2:
        return !this.#state.gate || passed % this.#state.count !== this.#state.count - 1;
      case 3:
        return !this.#state.gate || passed % this.#state.count < (this.#state.count + 1) >> 1;
      default:
        return passed !== this.#state.count;
    }
  }

  /** The first tick after `tick` at which OUT rises, null if it will not by itself. */
  nextRise(tick: number): number | null {
    this.#settle(tick);
    if (this.#state.start === null) return null;
    if (this.#isPeriodic) {
      if (this.#state.count === 1 && this.#state.nextCount === 0) return null; // a count of 1 never toggles OUT
      const { start, count, nextCount, nextLoad } = this.#state;
      if (nextLoad !== null && this.#isHalfway(nextLoad - start)) return nextLoad + (nextCount >> 1);
      return start + (Math.floor((tick - start) / count) + 1) * count;
    }
    const rise = this.#state.start + this.#state.count + (this.#state.mode >= 4 ? 1 : 0);
    return rise > tick ? rise : null;
  }

  #writeCount(written: number, tick: number): void {
    const modulus = this.#state.bcd ? 10_000 : 0x10000;
    const value = this.#state.bcd ? fromBcd(written) : written;
    const count = value === 0 ? modulus : value;
    if (this.#state.mode === 1 || this.#state.mode === 5) {
      this.#state.nextCount = count; // waits for the gate
    } else if (this.#isPeriodic && this.#state.start !== null) {
      this.#state.nextCount = count;
      this.#state.nextLoad = this.#endOfPart(tick, this.#state.start);
    } else if (this.#isPeriodic && this.#state.pausedAfter >= 0) {
      this.#state.nextCount = count; // waits for the gate
    } else {
      this.#state.nextCount = count;
      this.#load(tick);
      this.#pauseOrResume(tick);
    }
  }

  #load(tick: number): void {
    if (this.#state.nextCount > 0) this.#state.count = this.#state.nextCount;
    this.#state.nextCount = 0;
    this.#state.nextLoad = null;
    this.#state.start = tick;
    this.#state.pausedAfter = -1;
  }

  /** Modes whose gate stops the counter. */
  #pauseOrResume(tick: number): void {
    if (this.#state.mode === 1 || this.#state.mode === 5) return;
    if (!this.#state.gate && this.#state.start !== null) {
      this.#state.pausedAfter = tick - this.#state.start;
      this.#state.start = null;
      this.#state.nextLoad = null;
    } else if (this.#state.gate && this.#state.pausedAfter >= 0) {
      this.#state.start = tick - this.#state.pausedAfter;
      this.#state.pausedAfter = -1;
    }
  }

  get #isPeriodic(): boolean {
    return this.#state.mode === 2 || this.#state.mode === 3;
  }

  /** Whether `passed` ticks after a period's start its first half ends. */
  #isHalfway(passed: number): boolean {
    return this.#state.mode === 3 && passed % this.#state.count === (this.#state.count + 1) >> 1;
  }

  /** The tick at which the period, or in mode 3 its half, ends that `tick` is in. */
  #endOfPart(tick: number, start: number): number {
    const { mode, count } = this.#state;
    const period = start + Math.floor((tick - start) / count) * count;
    const half = period + ((count + 1) >> 1);
    return mode === 3 && tick < half ? half : period + count;
  }

  /** Puts a count that waits in force once its tick has come. In the middle of a square wave it begins with its low half. */
  #settle(tick: number): void {
    const { start, nextLoad } = this.#state;
    if (start === null || nextLoad === null || tick < nextLoad) return;
    const halfway = this.#isHalfway(nextLoad - start);
    this.#load(nextLoad);
    if (halfway) this.#state.start = nextLoad - ((this.#state.count + 1) >> 1);
  }

  #passed(tick: number): number {
    if (this.#state.start === null) return Math.max(this.#state.pausedAfter, 0);
    return tick - this.#state.start;
  }
}

function fromBcd(value: number): number {
  return (value & 15) + ((value >> 4) & 15) * 10 + ((value >> 8) & 15) * 100 + ((value >> 12) & 15) * 1000;
}

function toBcd(value: number): number {
  const digit = (power: number): number => Math.floor(value / power) % 10;
  return digit(1) | (digit(10) << 4) | (digit(100) << 8) | (digit(1000) << 12);
}
