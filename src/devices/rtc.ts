/**
 * The real-time clock and CMOS RAM of a PC: MC146818A (Motorola data sheet DS9925) at ports 0x70 (index) and 0x71 (data),
 * 128 bytes, IRQ 8.
 *
 * The time of day is computed: wall-clock seconds at the machine's start plus the machine's clock. Flags are settled when
 * somebody looks, and a deadline exists only while an enabled interrupt could still raise the line. Left out: square wave,
 * daylight saving, 1 and 4 MHz crystals (the divider either runs at 32,768 Hz or is held), writes to the day of week (it
 * follows from the date). Bit 7 of the index (NMI mask) is ignored. CMOS contents and time survive `reset`, as on a
 * battery.
 *
 *     register A   7 update in progress   6:4 divider (11x: held in reset)   3:0 periodic rate
 *     register B   7 SET  6 PIE  5 AIE  4 UIE  2 binary  1 24-hour
 *     register C   7 IRQF  6 PF  5 AF  4 UF (reading clears)                register D   7 battery good
 */

import { GSI, PLATFORM } from '../platform.ts';
import { type CmosMemory, fillCmos } from './cmos.ts';
import type { Board, Device, Line } from './device.ts';
import { decodeField, encodeTime, isTimeRegister, secondsFromFields } from './rtc-time.ts';
import { restoredBytes, type Saved, savedBytes } from './state.ts';
import { TickRate } from './ticks.ts';

const INDEX_MASK = 0x7f;
const REG = { SECOND_ALARM: 1, MINUTE_ALARM: 3, HOUR_ALARM: 5, A: 10, B: 11, C: 12, D: 13 } as const;
const A = { UIP: 0x80, HELD: 0x60, RATE: 0x0f, POWER_UP: 0x26 } as const;
const B = { SET: 0x80, PIE: 0x40, AIE: 0x20, UIE: 0x10, SQWE: 0x08, HOUR_24: 0x02, ENABLES: 0x70 } as const;
const C = { IRQF: 0x80, PF: 0x40, AF: 0x20, UF: 0x10 } as const;
const BATTERY_GOOD = 0x80;
const DONT_CARE = 0xc0;
/** Where a guest that resets itself says what firmware should do next. */
const SHUTDOWN_STATUS = 0x0f;

const HZ = 32_768;
/** UIP is set this long before an update: 244 us. */
const UIP_TICKS = 8;
const SECONDS_PER_DAY = 86_400;

const CMOS_BYTES = 128;

export interface RtcOptions {
  /** Wall-clock time at the moment of construction: whole seconds since 1970-01-01 00:00 UTC, shown as UTC. */
  readonly startSeconds: number;
  /** Fills the CMOS bytes that tell firmware the memory's size and the number of CPUs. */
  readonly memory?: CmosMemory;
}

interface State {
  readonly cmos: Uint8Array;
  index: number;
  flags: number;
  line: boolean;
  /** The divider's tick 0 in nanoseconds; `base` + ticks / HZ is the time in seconds. */
  origin: number;
  base: number;
  /** Divider ticks up to which flags are settled. */
  settled: number;
}

export class Rtc implements Device {
  readonly name = 'rtc';
  readonly ranges = [PLATFORM.RTC];
  readonly #board: Board;
  readonly #interrupt: Line;
  readonly #rate = new TickRate(HZ);
  #state: State;
  #deadline = Number.POSITIVE_INFINITY;

  constructor(board: Board, { startSeconds, memory }: RtcOptions) {
    this.#board = board;
    this.#interrupt = board.line(GSI.RTC);
    const cmos = new Uint8Array(CMOS_BYTES);
    cmos[REG.A] = A.POWER_UP;
    cmos[REG.B] = B.HOUR_24;
    if (memory !== undefined) fillCmos(cmos, memory);
    this.#state = { cmos, index: 0, flags: 0, line: false, origin: board.now(), base: startSeconds, settled: 0 };
  }

  /** CMOS byte 0x0f: 0 for a normal start, 0x0a for a jump through 0040:0067 without further ado, ... */
  get shutdownStatus(): number {
    return this.#state.cmos[SHUTDOWN_STATUS] ?? 0;
  }

  read(_rangeIndex: number, offset: number): number {
    if (offset === 0) return 0xff; // the index is write-only
    const ticks = this.#settle(this.#board.now());
    switch (this.#state.index) {
      case REG.A:
        return (this.#state.cmos[REG.A] ?? 0) | (this.#updating(ticks) ? A.UIP : 0);
      case REG.C:
        return this.#acknowledge();
      case REG.D:
        return BATTERY_GOOD;
      default:
        if (isTimeRegister(this.#state.index) && !(this.#b & B.SET)) this.#show(ticks);
        return this.#state.cmos[this.#state.index] ?? 0;
    }
  }

  write(_rangeIndex: number, offset: number, _size: number, value: number): void {
    if (offset === 0) {
      this.#state.index = value & INDEX_MASK;
      return;
    }
    const ticks = this.#settle(this.#board.now());
    if (this.#state.index === REG.A) this.#writeA(value & ~A.UIP);
    else if (this.#state.index === REG.B) this.#writeB(value, ticks);
    else if (isTimeRegister(this.#state.index)) this.#writeTime(value, ticks);
    else if (this.#state.index !== REG.C && this.#state.index !== REG.D) this.#state.cmos[this.#state.index] = value;
    this.#update();
  }

  /** The RESET pin: interrupts off, flags clear. */
  reset(): void {
    this.#settle(this.#board.now());
    this.#state.cmos[REG.B] = this.#b & ~(B.ENABLES | B.SQWE);
    this.#state.flags = 0;
    this.#state.index = 0;
    this.#update();
  }

  save(): Saved<State> {
    const { cmos, origin, ...registers } = this.#state;
    return { ...registers, cmos: savedBytes(cmos), origin: origin - this.#board.now() };
  }

  /** The time of day goes on from where it was saved. */
  restore({ cmos, origin, ...registers }: Saved<State>): void {
    this.#state = { ...registers, cmos: restoredBytes(cmos, CMOS_BYTES), origin: origin + this.#board.now() };
    this.#arm();
  }

  deadlineNanos(): number {
    return this.#deadline;
  }

  advance(nowNanos: number): void {
    this.#settle(nowNanos);
    this.#update();
  }

  get #b(): number {
    return this.#state.cmos[REG.B] ?? 0;
  }

  get #held(): boolean {
    return ((this.#state.cmos[REG.A] ?? 0) & A.HELD) === A.HELD;
  }

  /** Raises the flags of everything that happened since the last time. @returns the divider's tick now */
  #settle(now: number): number {
    if (this.#held) return this.#state.settled;
    const flags = this.#state.flags;
    const from = this.#state.settled;
    const ticks = Math.max(from, this.#rate.ticksAt(Math.max(0, now - this.#state.origin)));
    this.#state.settled = ticks;
    if (this.#nextPeriod(from) <= ticks) this.#state.flags |= C.PF;
    const before = Math.floor(from / HZ);
    const after = Math.floor(ticks / HZ);
    if (after > before && !(this.#b & B.SET)) {
      this.#state.flags |= C.UF;
      if (this.#nextAlarm(this.#state.base + before) <= this.#state.base + after) this.#state.flags |= C.AF;
    }
    if (this.#state.flags !== flags) this.#update();
    return ticks;
  }

  #updating(ticks: number): boolean {
    return !(this.#b & B.SET) && !this.#held && ticks % HZ >= HZ - UIP_TICKS;
  }

  #acknowledge(): number {
    const value = this.#state.flags | (this.#state.line ? C.IRQF : 0);
    this.#state.flags = 0;
    this.#update();
    return value;
  }

  #writeA(value: number): void {
    const wasHeld = this.#held;
    this.#state.cmos[REG.A] = value;
    if (!wasHeld || this.#held) return;
    // The first update comes half a second after the divider is let go; the time so far is kept.
    this.#state.base += Math.floor(this.#state.settled / HZ);
    this.#state.settled = HZ / 2;
    this.#state.origin = this.#board.now() - this.#rate.nanosAt(this.#state.settled);
  }

  #writeB(value: number, ticks: number): void {
    const before = this.#b;
    if (value & ~before & B.SET) this.#show(ticks); // the registers freeze as they are
    this.#state.cmos[REG.B] = value & B.SET ? value & ~B.UIE : value;
    if (before & ~value & B.SET) this.#setTime(ticks);
  }

  #writeTime(value: number, ticks: number): void {
    if (!(this.#b & B.SET)) this.#show(ticks);
    this.#state.cmos[this.#state.index] = value;
    if (!(this.#b & B.SET)) this.#setTime(ticks);
  }

  /** Takes the time from the registers, in place of the running one. */
  #setTime(ticks: number): void {
    this.#state.base = secondsFromFields(this.#state.cmos, this.#b) - Math.floor(ticks / HZ);
  }

  #show(ticks: number): void {
    encodeTime(this.#state.cmos, this.#b, this.#state.base + Math.floor(ticks / HZ));
  }

  /** The first divider tick after `tick` with a periodic event; Infinity for rate 0. Rates 1 and 2 are those of 8 and 9. */
  #nextPeriod(tick: number): number {
    const rate = (this.#state.cmos[REG.A] ?? 0) & A.RATE;
    if (rate === 0) return Number.POSITIVE_INFINITY;
    const period = 2 ** ((rate <= 2 ? rate + 7 : rate) - 1);
    return (Math.floor(tick / period) + 1) * period;
  }

  /** The first second after `seconds` at which all three alarm registers match; Infinity if none ever does. */
  #nextAlarm(seconds: number): number {
    const second = this.#alarm(REG.SECOND_ALARM, 59);
    const minute = this.#alarm(REG.MINUTE_ALARM, 59);
    const hour = this.#alarm(REG.HOUR_ALARM, 23);
    if (second === undefined || minute === undefined || hour === undefined) return Number.POSITIVE_INFINITY;
    const day = Math.floor(seconds / SECONDS_PER_DAY) * SECONDS_PER_DAY;
    const next = nextMatch(seconds - day, hour, minute, second);
    return next < 0 ? day + SECONDS_PER_DAY + nextMatch(-1, hour, minute, second) : day + next;
  }

  /** @returns the value an alarm register asks for, -1 for "every", undefined if no time can match it */
  #alarm(register: number, highest: number): number | undefined {
    const raw = this.#state.cmos[register] ?? 0;
    if (raw >= DONT_CARE) return -1;
    const value = decodeField(raw, this.#b, register === REG.HOUR_ALARM);
    return value <= highest ? value : undefined;
  }

  /** To be called after every change of flags, register A or B, alarm or time. */
  #update(): void {
    const level = this.#pending;
    this.#arm();
    if (level === this.#state.line) return;
    this.#state.line = level;
    this.#interrupt(level);
  }

  get #pending(): boolean {
    return (this.#state.flags & this.#b & B.ENABLES) !== 0;
  }

  #arm(): void {
    const tick = this.#pending || this.#held ? Number.POSITIVE_INFINITY : this.#nextInterrupt();
    this.#deadline = tick === Number.POSITIVE_INFINITY ? tick : this.#state.origin + this.#rate.nanosAt(tick);
  }

  /** The divider tick of the next event whose interrupt is enabled. */
  #nextInterrupt(): number {
    const b = this.#b;
    let tick = b & B.PIE ? this.#nextPeriod(this.#state.settled) : Number.POSITIVE_INFINITY;
    if (b & B.SET) return tick;
    const second = Math.floor(this.#state.settled / HZ);
    if (b & B.UIE) tick = Math.min(tick, (second + 1) * HZ);
    if (b & B.AIE) tick = Math.min(tick, (this.#nextAlarm(this.#state.base + second) - this.#state.base) * HZ);
    return tick;
  }
}

/** The first second of the day after `after` (-1: the day's start) that matches; -1 parts match any; -1 if none does. */
function nextMatch(after: number, hour: number, minute: number, second: number): number {
  const start = after + 1;
  for (let h = Math.floor(start / 3600); h < 24; h++) {
    if (hour >= 0 && h !== hour) continue;
    const fromMinute = h === Math.floor(start / 3600) ? Math.floor((start % 3600) / 60) : 0;
    for (let m = fromMinute; m < 60; m++) {
      if (minute >= 0 && m !== minute) continue;
      const fromSecond = h * 60 + m === Math.floor(start / 60) ? start % 60 : 0;
      if (second < 0) return h * 3600 + m * 60 + fromSecond;
      if (second >= fromSecond) return h * 3600 + m * 60 + second;
    }
  }
  return -1;
}
