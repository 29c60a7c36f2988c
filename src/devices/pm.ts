/**
 * ACPI power management (ACPI 6.5, section 4.8) with the ports of QEMU's q35 machine, PMBASE 0x600:
 *
 *     0x600  PM1_STS  16 bits, write 1 to clear     0  timer  8  power button
 *     0x602  PM1_EN   16 bits                       0  timer  5  global lock  8  power button  10  RTC (5 and 10: status never set)
 *     0x604  PM1_CNT  16 bits                       0  SCI_EN  12:10  sleep type  13  sleep now
 *     0x608  PM_TMR   24 bits at 3.579545 MHz, read-only
 *     0x620  GPE0     64 status bits (write 1 to clear), then 64 enable bits
 *
 * The machine is in ACPI mode always: SCI_EN reads 1 and there is no SMI command port (FADT: SMI_CMD 0, timer 24 bits, S5's
 * sleep type 0 as in QEMU). The timer's status bit is set each time bit 23 changes. Sleep types other than S5's do nothing.
 */
import { GSI, PLATFORM, SLEEP_TYPE_S5 } from '../platform.ts';
import type { Board, Device, Line } from './device.ts';
import { restoredBytes, type Saved } from './state.ts';
import { TickRate } from './ticks.ts';

const PM_TIMER_HZ = 3_579_545;
const TIMER_MASK = 0xffffff;
/** The timer's highest bit changes every so many ticks. */
const HALF_TIMER = 0x800000;

const RANGE = { EVENT: 0, CONTROL: 1, TIMER: 2, GPE: 3 } as const;
const STATUS = { TIMER: 0x0001, GLOBAL_LOCK: 0x0020, POWER_BUTTON: 0x0100, RTC: 0x0400 } as const;
const ENABLE_MASK = STATUS.TIMER | STATUS.GLOBAL_LOCK | STATUS.POWER_BUTTON | STATUS.RTC;
const CONTROL = { SCI_EN: 0x0001, SLEEP_TYPE: 0x1c00, SLEEP_ENABLE: 0x2000, STORED: 0x1c02 } as const;
/** Byte offset of the enables in the PM1 event block. */
const ENABLES = 2;
const SLEEP_TYPE_SHIFT = 10;
const SLEEP_ENABLE_BYTE = CONTROL.SLEEP_ENABLE >> 8;
const GPE_BYTES = PLATFORM.GPE0.length / 2;

interface State {
  /** The moment from which the timer counts, in nanoseconds. */
  origin: number;
  readonly gpeLevels: Uint8Array;
  readonly gpe: Uint8Array;
  status: number;
  enable: number;
  control: number;
  /** The tick at which the timer's bit 23 changes next and its status bit is set. */
  overflow: number;
  line: boolean;
}

export class PowerManagement implements Device {
  readonly name = 'pm';
  readonly ranges = [PLATFORM.PM1_EVENT, PLATFORM.PM1_CONTROL, PLATFORM.PM_TIMER, PLATFORM.GPE0];
  readonly #board: Board;
  readonly #sci: Line;
  readonly #rate = new TickRate(PM_TIMER_HZ);
  #state: State;
  #deadline = Number.POSITIVE_INFINITY;

  constructor(board: Board) {
    this.#board = board;
    this.#sci = board.line(GSI.SCI);
    this.#state = {
      origin: board.now(),
      gpeLevels: new Uint8Array(GPE_BYTES),
      gpe: new Uint8Array(2 * GPE_BYTES),
      status: 0,
      enable: 0,
      control: CONTROL.SCI_EN,
      overflow: HALF_TIMER,
      line: false,
    };
  }

  /** The fixed power button was pressed. */
  pressPowerButton(): void {
    this.#state.status |= STATUS.POWER_BUTTON;
    this.#update();
  }

  /** General-purpose event `bit` (0-63) as a level: while it is high its status bit comes back when cleared. */
  gpe(bit: number): Line {
    const index = bit >> 3;
    const mask = 1 << (bit & 7);
    return (level) => {
      this.#state.gpeLevels[index] = level
        ? (this.#state.gpeLevels[index] ?? 0) | mask
        : (this.#state.gpeLevels[index] ?? 0) & ~mask;
      if (level) this.#state.gpe[index] = (this.#state.gpe[index] ?? 0) | mask;
      this.#update();
    };
  }

  read(rangeIndex: number, offset: number, size: number): number {
    if (rangeIndex === RANGE.TIMER) {
      const value = (this.#ticksAt(this.#board.now()) & TIMER_MASK) >>> (8 * offset);
      return size === 4 ? value : value & (size === 2 ? 0xffff : 0xff);
    }
    if (rangeIndex === RANGE.GPE) return this.#state.gpe[offset] ?? 0;
    this.#settle(this.#board.now());
    const event = offset < ENABLES ? this.#state.status : this.#state.enable;
    const register = rangeIndex === RANGE.CONTROL ? this.#state.control : event;
    return (register >> (8 * (offset & 1))) & 0xff;
  }

  write(rangeIndex: number, offset: number, _size: number, value: number): void {
    if (rangeIndex === RANGE.TIMER) return;
    this.#settle(this.#board.now());
    if (rangeIndex === RANGE.GPE) this.#writeGpe(offset, value);
    else if (rangeIndex === RANGE.CONTROL) this.#writeControl(offset, value);
    else this.#writeEvent(offset, value);
    this.#update();
  }

  reset(): void {
    const { origin, gpeLevels, line } = this.#state;
    const gpe = new Uint8Array(2 * GPE_BYTES);
    gpe.set(gpeLevels);
    this.#state = {
      origin,
      gpeLevels,
      gpe,
      status: 0,
      enable: 0,
      control: CONTROL.SCI_EN,
      overflow: this.#nextOverflow(),
      line,
    };
    this.#update();
  }

  save(): Saved<State> {
    const { origin, gpeLevels, gpe, ...registers } = this.#state;
    return { ...registers, origin: origin - this.#board.now(), gpeLevels: [...gpeLevels], gpe: [...gpe] };
  }

  restore({ origin, gpeLevels, gpe, ...registers }: Saved<State>): void {
    this.#state = {
      ...registers,
      origin: origin + this.#board.now(),
      gpeLevels: restoredBytes(gpeLevels, GPE_BYTES),
      gpe: restoredBytes(gpe, 2 * GPE_BYTES),
    };
    this.#arm();
  }

  deadlineNanos(): number {
    return this.#deadline;
  }

  advance(nowNanos: number): void {
    this.#settle(nowNanos);
    this.#update();
  }

  #ticksAt(now: number): number {
    return this.#rate.ticksAt(now - this.#state.origin);
  }

  #settle(now: number): void {
    if (this.#ticksAt(now) >= this.#state.overflow) this.#state.status |= STATUS.TIMER;
  }

  #nextOverflow(): number {
    return (Math.floor(this.#ticksAt(this.#board.now()) / HALF_TIMER) + 1) * HALF_TIMER;
  }

  #writeEvent(offset: number, value: number): void {
    const shift = 8 * (offset & 1);
    const bits = value << shift;
    if (offset < ENABLES) {
      if (this.#state.status & bits & STATUS.TIMER) this.#state.overflow = this.#nextOverflow();
      this.#state.status &= ~bits;
    } else {
      this.#state.enable = ((this.#state.enable & ~(0xff << shift)) | bits) & ENABLE_MASK;
    }
  }

  #writeControl(offset: number, value: number): void {
    const shift = 8 * offset;
    const control = (this.#state.control & ~(0xff << shift)) | (value << shift);
    this.#state.control = (control & CONTROL.STORED) | CONTROL.SCI_EN;
    const sleeps = offset === 1 && (value & SLEEP_ENABLE_BYTE) !== 0;
    if (sleeps && (control & CONTROL.SLEEP_TYPE) >> SLEEP_TYPE_SHIFT === SLEEP_TYPE_S5) {
      this.#board.report({ type: 'power-off' });
    }
  }

  #writeGpe(offset: number, value: number): void {
    if (offset >= GPE_BYTES) this.#state.gpe[offset] = value;
    else this.#state.gpe[offset] = ((this.#state.gpe[offset] ?? 0) & ~value) | (this.#state.gpeLevels[offset] ?? 0);
  }

  #update(): void {
    this.#arm();
    let level = (this.#state.status & this.#state.enable) !== 0;
    for (let i = 0; i < GPE_BYTES; i++)
      level ||= ((this.#state.gpe[i] ?? 0) & (this.#state.gpe[GPE_BYTES + i] ?? 0)) !== 0;
    if (level === this.#state.line) return;
    this.#state.line = level;
    this.#sci(level);
  }

  #arm(): void {
    const { origin, enable, status, overflow } = this.#state;
    const armed = (enable & STATUS.TIMER) !== 0 && (status & STATUS.TIMER) === 0;
    this.#deadline = armed ? origin + this.#rate.nanosAt(overflow) : Number.POSITIVE_INFINITY;
  }
}
