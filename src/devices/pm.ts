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
import type { AddressRange, Clock, Device, Line } from './device.ts';
import { TickRate } from './ticks.ts';

const PM_TIMER_HZ = 3_579_545;
const TIMER_MASK = 0xffffff;
/** The timer's highest bit changes every so many ticks. */
const HALF_TIMER = 0x800000;

const RANGE = { PM1: 0, TIMER: 1, GPE: 2 } as const;
const STATUS = { TIMER: 0x0001, GLOBAL_LOCK: 0x0020, POWER_BUTTON: 0x0100, RTC: 0x0400 } as const;
const ENABLE_MASK = STATUS.TIMER | STATUS.GLOBAL_LOCK | STATUS.POWER_BUTTON | STATUS.RTC;
const CONTROL = { SCI_EN: 0x0001, SLEEP_TYPE: 0x1c00, SLEEP_ENABLE: 0x2000, STORED: 0x1c02 } as const;
/** Byte offsets in the PM1 block. */
const PM1 = { STATUS: 0, ENABLE: 2, CONTROL: 4, END: 6 } as const;
const SLEEP_ENABLE_BYTE = CONTROL.SLEEP_ENABLE >> 8;
const GPE_BYTES = 8;

export interface PowerManagementOptions {
  readonly now: Clock;
  /** The SCI, level-triggered. */
  readonly sci: Line;
  /** The guest entered S5. */
  readonly onPowerOff: () => void;
  /** PMBASE; default 0x600. */
  readonly base?: number;
}

export class PowerManagement implements Device {
  readonly name = 'pm';
  readonly ranges: readonly AddressRange[];
  readonly #options: PowerManagementOptions;
  readonly #rate = new TickRate(PM_TIMER_HZ);
  readonly #gpeLevels = new Uint8Array(GPE_BYTES);
  readonly #gpe = new Uint8Array(2 * GPE_BYTES);
  #status = 0;
  #enable = 0;
  #control: number = CONTROL.SCI_EN;
  /** The tick at which the timer's bit 23 changes next and its status bit is set. */
  #overflow = HALF_TIMER;
  #deadline = Number.POSITIVE_INFINITY;
  #line: boolean = false;

  constructor(options: PowerManagementOptions) {
    const base = options.base ?? 0x600;
    this.#options = options;
    this.ranges = [
      { space: 'pio', base, length: 6, maxAccess: 1 },
      { space: 'pio', base: base + 0x08, length: 4 },
      { space: 'pio', base: base + 0x20, length: 2 * GPE_BYTES, maxAccess: 1 },
    ];
  }

  /** The fixed power button was pressed. */
  pressPowerButton(): void {
    this.#status |= STATUS.POWER_BUTTON;
    this.#update();
  }

  /** General-purpose event `bit` (0-63) as a level: while it is high its status bit comes back when cleared. */
  gpe(bit: number): Line {
    const index = bit >> 3;
    const mask = 1 << (bit & 7);
    return (level) => {
      this.#gpeLevels[index] = level ? (this.#gpeLevels[index] ?? 0) | mask : (this.#gpeLevels[index] ?? 0) & ~mask;
      if (level) this.#gpe[index] = (this.#gpe[index] ?? 0) | mask;
      this.#update();
    };
  }

  read(rangeIndex: number, offset: number, size: number): number {
    if (rangeIndex === RANGE.TIMER) {
      const value = (this.#ticks() & TIMER_MASK) >>> (8 * offset);
      return size === 4 ? value : value & (size === 2 ? 0xffff : 0xff);
    }
    if (rangeIndex === RANGE.GPE) return this.#gpe[offset] ?? 0;
    this.#settle(this.#options.now());
    const register = offset < PM1.ENABLE ? this.#status : offset < PM1.CONTROL ? this.#enable : this.#control;
    return (register >> (8 * (offset & 1))) & 0xff;
  }

  write(rangeIndex: number, offset: number, _size: number, value: number): void {
    if (rangeIndex === RANGE.TIMER) return;
    this.#settle(this.#options.now());
    if (rangeIndex === RANGE.GPE) this.#writeGpe(offset, value);
    else this.#writePm1(offset, value);
    this.#update();
  }

  reset(): void {
    this.#status = 0;
    this.#enable = 0;
    this.#control = CONTROL.SCI_EN;
    this.#overflow = this.#nextOverflow();
    this.#gpe.fill(0);
    this.#gpe.set(this.#gpeLevels);
    this.#update();
  }

  deadlineNanos(): number {
    return this.#deadline;
  }

  advance(nowNanos: number): void {
    this.#settle(nowNanos);
    this.#update();
  }

  /** The timer's ticks, in 32 bits: more than it shows. */
  #ticks(): number {
    return this.#rate.ticksAt(this.#options.now()) % 2 ** 31;
  }

  #settle(now: number): void {
    if (this.#rate.ticksAt(now) >= this.#overflow) this.#status |= STATUS.TIMER;
  }

  #nextOverflow(): number {
    return (Math.floor(this.#rate.ticksAt(this.#options.now()) / HALF_TIMER) + 1) * HALF_TIMER;
  }

  #writePm1(offset: number, value: number): void {
    const shift = 8 * (offset & 1);
    const lane = 0xff << shift;
    const bits = value << shift;
    if (offset < PM1.ENABLE) {
      if (this.#status & bits & STATUS.TIMER) this.#overflow = this.#nextOverflow();
      this.#status &= ~bits;
    } else if (offset < PM1.CONTROL) {
      this.#enable = ((this.#enable & ~lane) | bits) & ENABLE_MASK;
    } else {
      this.#control = (((this.#control & ~lane) | bits) & CONTROL.STORED) | CONTROL.SCI_EN;
      if (shift > 0 && value & SLEEP_ENABLE_BYTE && (this.#control & CONTROL.SLEEP_TYPE) === 0)
        this.#options.onPowerOff();
    }
  }

  #writeGpe(offset: number, value: number): void {
    if (offset >= GPE_BYTES) this.#gpe[offset] = value;
    else this.#gpe[offset] = ((this.#gpe[offset] ?? 0) & ~value) | (this.#gpeLevels[offset] ?? 0);
  }

  #update(): void {
    const armed = (this.#enable & STATUS.TIMER) !== 0 && (this.#status & STATUS.TIMER) === 0;
    this.#deadline = armed ? this.#rate.nanosAt(this.#overflow) : Number.POSITIVE_INFINITY;
    let level = (this.#status & this.#enable) !== 0;
    for (let i = 0; i < GPE_BYTES; i++) level ||= ((this.#gpe[i] ?? 0) & (this.#gpe[GPE_BYTES + i] ?? 0)) !== 0;
    if (level === this.#line) return;
    this.#line = level;
    this.#options.sci(level);
  }
}
