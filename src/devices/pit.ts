/**
 * The 8254 interval timer of a PC (counters in `pit-channel.ts`): ports 0x40-0x43 at 1.193182 MHz, and port 0x61 with
 * counter 2's gate and output, the speaker bit and the refresh toggle.
 *
 *     port 0x61   0 gate of counter 2 (RW)   1 speaker (RW)   4 refresh toggle (RO)   5 OUT of counter 2 (RO)
 *
 * Counter 0 interrupts with a short pulse each time its OUT rises, as in KVM; rises that were missed while nobody advanced
 * the clock are one pulse, and pulses keep 200 us apart however short the count (KVM's min_timer_period_us).
 */
import type { AddressRange, Clock, Device, Line } from './device.ts';
import { ACCESS, PitChannel } from './pit-channel.ts';
import { TickRate } from './ticks.ts';

const PIT_HZ = 1_193_182;
const MIN_PULSE_DISTANCE_NANOS = 200_000;
const REFRESH_TOGGLE_NANOS = 15_085;

const COUNTERS = 0;
const CONTROL_PORT = 3;
const READ_BACK = 3;
/** Read-back command bits; both latches are asked for with 0. */
const READ_BACK_BITS = { NO_COUNT: 0x20, NO_STATUS: 0x10 } as const;
const PORT61 = { GATE: 0x01, SPEAKER: 0x02, REFRESH: 0x10, OUT: 0x20 } as const;

export interface PitOptions {
  readonly now: Clock;
  /** IRQ 0: goes high and low again at each rise of counter 0's OUT. */
  readonly interrupt: Line;
}

export class Pit implements Device {
  readonly name = 'pit';
  readonly ranges: readonly AddressRange[] = [
    { space: 'pio', base: 0x40, length: 4, maxAccess: 1 },
    { space: 'pio', base: 0x61, length: 1, maxAccess: 1 },
  ];
  readonly #options: PitOptions;
  readonly #rate = new TickRate(PIT_HZ);
  #channels = powerUp();
  #speaker: boolean = false;
  #nextRise = Number.POSITIVE_INFINITY;
  #lastPulseNanos = Number.NEGATIVE_INFINITY;

  constructor(options: PitOptions) {
    this.#options = options;
  }

  read(rangeIndex: number, offset: number): number {
    const now = this.#options.now();
    const tick = this.#rate.ticksAt(now);
    if (rangeIndex === COUNTERS) return this.#channels[offset]?.read(tick) ?? 0; // the control port reads 0
    const counter2 = this.#channels[2];
    let value = this.#speaker ? PORT61.SPEAKER : 0;
    if (counter2.gate) value |= PORT61.GATE;
    if (counter2.out(tick)) value |= PORT61.OUT;
    if (Math.floor(now / REFRESH_TOGGLE_NANOS) % 2 === 1) value |= PORT61.REFRESH;
    return value;
  }

  write(rangeIndex: number, offset: number, _size: number, value: number): void {
    const tick = this.#rate.ticksAt(this.#options.now());
    if (rangeIndex !== COUNTERS) {
      this.#speaker = (value & PORT61.SPEAKER) !== 0;
      this.#channels[2].setGate((value & PORT61.GATE) !== 0, tick);
    } else if (offset === CONTROL_PORT) {
      this.#control(value, tick);
    } else {
      this.#channels[offset]?.write(value, tick);
    }
    this.#nextRise = this.#channels[0].nextRise(tick);
  }

  reset(): void {
    this.#channels = powerUp();
    this.#speaker = false;
    this.#nextRise = Number.POSITIVE_INFINITY;
    this.#lastPulseNanos = Number.NEGATIVE_INFINITY;
  }

  deadlineNanos(): number {
    if (this.#nextRise === Number.POSITIVE_INFINITY) return this.#nextRise;
    return Math.max(this.#rate.nanosAt(this.#nextRise), this.#lastPulseNanos + MIN_PULSE_DISTANCE_NANOS);
  }

  advance(nowNanos: number): void {
    if (nowNanos < this.deadlineNanos()) return;
    this.#lastPulseNanos = nowNanos;
    this.#nextRise = this.#channels[0].nextRise(this.#rate.ticksAt(nowNanos));
    this.#options.interrupt(true);
    this.#options.interrupt(false);
  }

  #control(value: number, tick: number): void {
    const select = value >> 6;
    const access = (value >> 4) & 3;
    if (select === READ_BACK) {
      this.#channels.forEach((channel, index) => {
        if ((value & (2 << index)) === 0) return;
        if ((value & READ_BACK_BITS.NO_COUNT) === 0) channel.latchCount(tick);
        if ((value & READ_BACK_BITS.NO_STATUS) === 0) channel.latchStatus(tick);
      });
    } else if (access === ACCESS.LATCH) {
      this.#channels[select]?.latchCount(tick);
    } else {
      this.#channels[select]?.setMode(access, (value >> 1) & 7, (value & 1) !== 0);
    }
  }
}

/** Gates 0 and 1 are tied high, gate 2 is port 0x61's. */
function powerUp(): [PitChannel, PitChannel, PitChannel] {
  return [new PitChannel(true), new PitChannel(true), new PitChannel(false)];
}
