/**
 * The 8254 interval timer of a PC (counters in `pit-channel.ts`): ports 0x40-0x43 at 1.193182 MHz, and port 0x61 with
 * counter 2's gate and output, the speaker bit and the refresh toggle.
 *
 *     port 0x61   0 gate of counter 2 (RW)   1 speaker (RW)   4 refresh toggle (RO)   5 OUT of counter 2 (RO)
 *
 * Counter 0 interrupts with a short pulse each time its OUT rises, as in KVM; rises that were missed while nobody advanced
 * the clock are one pulse, and pulses keep 200 us apart however short the count (KVM's min_timer_period_us).
 */
import { GSI, PLATFORM } from '../platform.ts';
import type { Board, Device, Line } from './device.ts';
import { ACCESS, type ChannelState, PitChannel } from './pit-channel.ts';
import { moved } from './state.ts';
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

interface State {
  /** The moment from which ticks count, in nanoseconds. */
  origin: number;
  speaker: boolean;
  /** The tick at which counter 0's OUT rises next; null when it will not by itself. */
  nextRise: number | null;
  lastPulseNanos: number | null;
}

interface SavedPit extends Readonly<State> {
  readonly channels: readonly Readonly<ChannelState>[];
}

export class Pit implements Device {
  readonly name = 'pit';
  readonly ranges = [PLATFORM.PIT, PLATFORM.PORT_B];
  readonly #board: Board;
  /** Goes high and low again at each rise of counter 0's OUT. */
  readonly #interrupt: Line;
  readonly #rate = new TickRate(PIT_HZ);
  #channels = powerUp();
  #state: State;

  constructor(board: Board) {
    this.#board = board;
    this.#interrupt = board.line(GSI.TIMER);
    this.#state = { origin: board.now(), speaker: false, nextRise: null, lastPulseNanos: null };
  }

  read(rangeIndex: number, offset: number): number {
    const tick = this.#tickAt(this.#board.now());
    if (rangeIndex === COUNTERS) return this.#channels[offset]?.read(tick) ?? 0; // the control port reads 0
    const counter2 = this.#channels[2];
    let value = this.#state.speaker ? PORT61.SPEAKER : 0;
    if (counter2.gate) value |= PORT61.GATE;
    if (counter2.out(tick)) value |= PORT61.OUT;
    if (Math.floor((this.#board.now() - this.#state.origin) / REFRESH_TOGGLE_NANOS) % 2 === 1) value |= PORT61.REFRESH;
    return value;
  }

  write(rangeIndex: number, offset: number, _size: number, value: number): void {
    const tick = this.#tickAt(this.#board.now());
    if (rangeIndex !== COUNTERS) {
      this.#state.speaker = (value & PORT61.SPEAKER) !== 0;
      this.#channels[2].setGate((value & PORT61.GATE) !== 0, tick);
    } else if (offset === CONTROL_PORT) {
      this.#control(value, tick);
    } else {
      this.#channels[offset]?.write(value, tick);
    }
    this.#state.nextRise = this.#channels[0].nextRise(tick);
  }

  reset(): void {
    this.#channels = powerUp();
    this.#state = { origin: this.#state.origin, speaker: false, nextRise: null, lastPulseNanos: null };
  }

  save(): SavedPit {
    const { origin, lastPulseNanos, ...registers } = this.#state;
    const now = this.#board.now();
    return {
      ...registers,
      origin: origin - now,
      lastPulseNanos: moved(lastPulseNanos, -now),
      channels: this.#channels.map((channel) => channel.save()),
    };
  }

  restore({ origin, lastPulseNanos, channels, ...registers }: SavedPit): void {
    const now = this.#board.now();
    this.#state = { ...registers, origin: origin + now, lastPulseNanos: moved(lastPulseNanos, now) };
    this.#channels.forEach((channel, index) => {
      const saved = channels[index];
      if (saved !== undefined) channel.restore(saved);
    });
  }

  deadlineNanos(): number {
    const { origin, nextRise, lastPulseNanos } = this.#state;
    if (nextRise === null) return Number.POSITIVE_INFINITY;
    const rise = origin + this.#rate.nanosAt(nextRise);
    return lastPulseNanos === null ? rise : Math.max(rise, lastPulseNanos + MIN_PULSE_DISTANCE_NANOS);
  }

  advance(nowNanos: number): void {
    if (nowNanos < this.deadlineNanos()) return;
    this.#state.lastPulseNanos = nowNanos;
    this.#state.nextRise = this.#channels[0].nextRise(this.#tickAt(nowNanos));
    this.#interrupt(true);
    this.#interrupt(false);
  }

  #tickAt(nanos: number): number {
    return this.#rate.ticksAt(nanos - this.#state.origin);
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
