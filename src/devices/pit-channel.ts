/**
 * One counter of an 8254 (Intel 8254 data sheet, order number 231164-005), computed from the tick it is asked at.
 *
 * Deviations: a count is loaded at the tick it is written (the chip needs one CLK more), and gate changes act at once.
 * A count written while mode 2 or 3 runs takes effect at the end of the period, in modes 1 and 5 at the next trigger.
 *
 *     mode   starts     OUT                                       gate low
 *     0      load       low, high after N ticks                   pauses
 *     1      gate edge  low for N ticks                           nothing
 *     2      load       high, low in the last tick of N           OUT high, edge restarts
 *     3      load       high (N+1)/2 ticks, low the rest of N     OUT high, edge restarts
 *     4      load       high, low for one tick after N            pauses
 *     5      gate edge  as 4                                      nothing
 */

/** RW field of the control word. */
export const ACCESS = { LATCH: 0, LOW: 1, HIGH: 2, WORD: 3 } as const;
const STATUS = { OUT: 0x80, NULL_COUNT: 0x40 } as const;
const IDLE = Number.POSITIVE_INFINITY;

export class PitChannel {
  #mode: number = 0;
  #bcd: boolean = false;
  #access: number = ACCESS.WORD;
  #gate: boolean;
  /** The count in force, 1 to 0x10000 (10,000 in BCD), and the one that waits for the period's end (0: none). */
  #count = 0x10000;
  #nextCount = 0;
  /** Tick at which the count was loaded; IDLE before. While paused: how many ticks had passed. */
  #start = IDLE;
  #pausedAfter = -1;
  #lowByte = 0;
  #writeHigh: boolean = false;
  #readHigh: boolean = false;
  /** Latched count, and how many bytes of it are to be read: 0 when nothing is latched. */
  #latch = 0;
  #latchedBytes = 0;
  #latchedStatus = -1;

  constructor(gate: boolean) {
    this.#gate = gate;
  }

  get gate(): boolean {
    return this.#gate;
  }

  /** The control word's access (1-3), mode (6 and 7 are 2 and 3) and BCD fields for this counter. */
  setMode(access: number, mode: number, bcd: boolean): void {
    this.#access = access;
    this.#mode = mode > 5 ? mode - 4 : mode;
    this.#bcd = bcd;
    this.#start = IDLE;
    this.#pausedAfter = -1;
    this.#nextCount = 0;
    this.#writeHigh = false;
    this.#readHigh = false;
    this.#latchedBytes = 0;
    this.#latchedStatus = -1;
  }

  setGate(gate: boolean, tick: number): void {
    if (gate === this.#gate) return;
    this.#settle(tick);
    this.#gate = gate;
    switch (this.#mode) {
      case 0:
      case 4:
        this.#pauseOrResume(tick);
        break;
      case 2:
      case 3:
        if (gate && this.#start !== IDLE) this.#load(tick);
        break;
      default:
        if (gate) this.#load(tick);
    }
  }

  /** A byte written to the counter's port. */
  write(value: number, tick: number): void {
    this.#settle(tick);
    if (this.#access !== ACCESS.WORD) {
      this.#writeCount(this.#access === ACCESS.LOW ? value : value << 8, tick);
      return;
    }
    this.#writeHigh = !this.#writeHigh;
    if (!this.#writeHigh) {
      this.#writeCount(this.#lowByte | (value << 8), tick);
      return;
    }
    this.#lowByte = value;
    if (this.#mode === 0) {
      this.#start = IDLE; // the first byte stops mode 0
      this.#pausedAfter = -1;
    }
  }

  /** A byte read from the counter's port: latched status, latched count or the count as it runs. */
  read(tick: number): number {
    if (this.#latchedStatus >= 0) {
      const status = this.#latchedStatus;
      this.#latchedStatus = -1;
      return status;
    }
    const latched = this.#latchedBytes > 0;
    const value = latched ? this.#latch : this.counter(tick);
    if (latched) this.#latchedBytes--;
    let high = this.#access === ACCESS.HIGH;
    if (this.#access === ACCESS.WORD) {
      high = this.#readHigh;
      this.#readHigh = !this.#readHigh;
    }
    return high ? value >> 8 : value & 0xff;
  }

  /** A latched count stays until it is read; latching again before that does nothing. */
  latchCount(tick: number): void {
    if (this.#latchedBytes > 0) return;
    this.#latch = this.counter(tick);
    this.#latchedBytes = this.#access === ACCESS.WORD ? 2 : 1;
    this.#readHigh = false;
  }

  latchStatus(tick: number): void {
    if (this.#latchedStatus >= 0) return;
    const out = this.out(tick) ? STATUS.OUT : 0;
    const isNull = this.#nextCount > 0 || (this.#start === IDLE && this.#pausedAfter < 0) ? STATUS.NULL_COUNT : 0;
    this.#latchedStatus = out | isNull | (this.#access << 4) | (this.#mode << 1) | (this.#bcd ? 1 : 0);
  }

  /** The counting element as the guest reads it, 0-0xffff. */
  counter(tick: number): number {
    this.#settle(tick);
    const modulus = this.#bcd ? 10_000 : 0x10000;
    const passed = this.#passed(tick);
    let value = this.#count;
    if (this.#mode === 2) {
      value -= passed % this.#count;
    } else if (this.#mode === 3) {
      const phase = passed % this.#count;
      const half = (this.#count + 1) >> 1;
      value = (this.#count & ~1) - 2 * (phase < half ? phase : phase - half);
    } else {
      value -= passed % modulus;
    }
    value = ((value % modulus) + modulus) % modulus;
    return this.#bcd ? toBcd(value) : value;
  }

  /** The OUT pin. */
  out(tick: number): boolean {
    this.#settle(tick);
    if (this.#start === IDLE && this.#pausedAfter < 0) return this.#mode !== 0;
    const passed = this.#passed(tick);
    switch (this.#mode) {
      case 0:
      case 1:
        return passed >= this.#count;
      case 2:
        return !this.#gate || passed % this.#count !== this.#count - 1;
      case 3:
        return !this.#gate || passed % this.#count < (this.#count + 1) >> 1;
      default:
        return passed !== this.#count;
    }
  }

  /** The first tick after `tick` at which OUT rises, Infinity if it will not by itself. */
  nextRise(tick: number): number {
    this.#settle(tick);
    if (this.#start === IDLE) return IDLE;
    if (this.#mode === 2 || this.#mode === 3) {
      if (!this.#gate || (this.#count === 1 && this.#nextCount === 0)) return IDLE; // a count of 1 never toggles OUT
      return this.#start + (Math.floor((tick - this.#start) / this.#count) + 1) * this.#count;
    }
    const rise = this.#start + this.#count + (this.#mode >= 4 ? 1 : 0);
    return rise > tick ? rise : IDLE;
  }

  #writeCount(written: number, tick: number): void {
    const modulus = this.#bcd ? 10_000 : 0x10000;
    const value = this.#bcd ? fromBcd(written) : written;
    const count = value === 0 ? modulus : value;
    if (this.#mode === 1 || this.#mode === 5) {
      this.#nextCount = count; // waits for the gate
    } else if ((this.#mode === 2 || this.#mode === 3) && this.#start !== IDLE) {
      this.#start += Math.floor((tick - this.#start) / this.#count) * this.#count;
      this.#nextCount = count; // waits for the end of the period that began at `start`
    } else {
      this.#nextCount = count;
      this.#load(tick);
      this.#pauseOrResume(tick);
    }
  }

  #load(tick: number): void {
    if (this.#nextCount > 0) this.#count = this.#nextCount;
    this.#nextCount = 0;
    this.#start = tick;
    this.#pausedAfter = -1;
  }

  #pauseOrResume(tick: number): void {
    if (this.#mode !== 0 && this.#mode !== 4) return;
    if (!this.#gate && this.#start !== IDLE) {
      this.#pausedAfter = tick - this.#start;
      this.#start = IDLE;
    } else if (this.#gate && this.#pausedAfter >= 0) {
      this.#start = tick - this.#pausedAfter;
      this.#pausedAfter = -1;
    }
  }

  /** Puts a count that waits for the end of a period in force once that has come. */
  #settle(tick: number): void {
    if (this.#nextCount === 0 || this.#start === IDLE || (this.#mode !== 2 && this.#mode !== 3)) return;
    const end = this.#start + this.#count;
    if (tick >= end) this.#load(end);
  }

  #passed(tick: number): number {
    if (this.#start === IDLE) return Math.max(this.#pausedAfter, 0);
    return tick - this.#start;
  }
}

function fromBcd(value: number): number {
  return (value & 15) + ((value >> 4) & 15) * 10 + ((value >> 8) & 15) * 100 + ((value >> 12) & 15) * 1000;
}

function toBcd(value: number): number {
  const digit = (power: number): number => Math.floor(value / power) % 10;
  return digit(1) | (digit(10) << 4) | (digit(100) << 8) | (digit(1000) << 12);
}
