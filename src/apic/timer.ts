/**
 * The APIC timer: one-shot, periodic, TSC deadline (SDM vol. 3A, 12.5.4). Counters are computed from a target time, never
 * ticked; time is handed in by the host. Only the owner of the vCPU calls this; all state is in the control words.
 *
 * KVM's rules (lapic.c: apic_update_lvtt, start_apic_timer, set_target_expiration, update_target_expiration,
 * limit_periodic_timer_frequency, advance_periodic_target_expiration, apic_timer_expired): a 1 GHz bus, a floor under
 * periods, one pending expiry at most, which waits while the LVT entry is masked.
 * Left out: KVM's early firing of the deadline timer (timer_advance_ns), which a guest cannot see.
 */
import type { ApicBehaviour } from './behaviour.ts';
import { TIMER_MODE, timerDivisor } from './fields.ts';
import type { ApicHost } from './host.ts';
import { type ApicMemory, type BlockWord, CONTROL } from './layout.ts';
import type { ApicServices } from './local-apic.ts';
import { maskWrite, REG, registerIndex } from './registers.ts';

const TMICT = REG.TMICT >>> 2;
const TMCCT = REG.TMCCT >>> 2;
const TDCR = REG.TDCR >>> 2;
const LVTT = REG.LVT_TIMER >>> 2;

export class ApicTimer {
  readonly #memory: ApicMemory;
  readonly #words: Int32Array;
  readonly #host: ApicHost;
  readonly #behaviour: ApicBehaviour;
  readonly #vcpuIndex: number;
  readonly #a: BlockWord;
  /** Indexes into the view of doubles. */
  readonly #period: number;
  readonly #target: number;

  constructor({ memory, host, behaviour }: ApicServices, vcpuIndex: number) {
    this.#memory = memory;
    this.#behaviour = behaviour;
    this.#words = memory.words;
    this.#host = host;
    this.#vcpuIndex = vcpuIndex;
    this.#a = memory.block(vcpuIndex);
    this.#period = (this.#a + CONTROL.TIMER_PERIOD) >>> 1;
    this.#target = (this.#a + CONTROL.TIMER_TARGET) >>> 1;
  }

  get #mode(): number {
    return this.#words[this.#a + CONTROL.TIMER_MODE];
  }

  get #counts(): boolean {
    return this.#mode === TIMER_MODE.ONE_SHOT || this.#mode === TIMER_MODE.PERIODIC;
  }

  get inDeadlineMode(): boolean {
    return this.#mode === TIMER_MODE.TSC_DEADLINE;
  }

  /** An expiry that has not become an interrupt yet. */
  get pending(): boolean {
    return this.#words[this.#a + CONTROL.TIMER_PENDING] !== 0;
  }

  /** Timer mode bits of the LVT entry that this machine's CPUID offers. */
  get modeMask(): number {
    return this.#memory.options.tscDeadlineCpuid ? TIMER_MODE.MASK : TIMER_MODE.PERIODIC;
  }

  /** The LVT entry may have changed (apic_update_lvtt). */
  updateMode(): void {
    const words = this.#words;
    const mode = words[this.#a + LVTT] & this.modeMask;
    if (mode === this.#mode) return;
    if (this.inDeadlineMode !== (mode === TIMER_MODE.TSC_DEADLINE) && this.#memory.rules.modeSwitchClearsCount) {
      this.cancel();
      words[this.#a + TMICT] = 0;
      this.#memory.doubles[this.#period] = 0;
      this.#setDeadline(0, 0);
    }
    words[this.#a + CONTROL.TIMER_MODE] = mode;
    this.#limitPeriod();
  }

  /** TDCR may have changed (update_divide_count). */
  updateDivisor(): void {
    this.#words[this.#a + CONTROL.TIMER_DIVISOR] = timerDivisor(this.#words[this.#a + TDCR]);
  }

  /** Stops it and forgets an expiry that waits. */
  cancel(): void {
    this.stop();
    this.clearPending();
  }

  stop(): void {
    this.#words[this.#a + CONTROL.TIMER_ARMED] = 0;
  }

  clearPending(): void {
    this.#words[this.#a + CONTROL.TIMER_PENDING] = 0;
  }

  writeInitialCount(value: number): void {
    if (this.inDeadlineMode) return;
    this.cancel();
    this.#words[this.#a + TMICT] = value;
    this.start(TMICT);
  }

  writeDivide(value: number): void {
    const words = this.#words;
    const before = words[this.#a + CONTROL.TIMER_DIVISOR];
    words[this.#a + TDCR] = this.#memory.rules.writableBits ? maskWrite(registerIndex(REG.TDCR), value) : value;
    this.updateDivisor();
    const divisor = words[this.#a + CONTROL.TIMER_DIVISOR];
    if (divisor === before || this.#memory.doubles[this.#period] === 0) return;
    // What remains is stretched or shrunk. A one-shot that has expired has 0 left, and so fires once more: KVM's doing.
    this.stop();
    const remaining = this.#remaining();
    this.#memory.doubles[this.#period] = this.#nanosOf(words[this.#a + TMICT]);
    this.#limitPeriod();
    this.#memory.doubles[this.#target] = this.#host.nowNanos() + Math.floor((remaining * divisor) / before);
    this.#arm();
  }

  /** After setState: start from the current count in the page, if there is one. */
  startFromCurrentCount(): void {
    this.start(this.#memory.rules.currentCountResumes ? TMCCT : TMICT);
    this.#words[this.#a + TMCCT] = 0;
  }

  /** The current count register, unsigned. */
  currentCount(): number {
    const period = this.#memory.doubles[this.#period];
    if (this.inDeadlineMode || this.#words[this.#a + TMICT] === 0 || period === 0) return 0;
    return Math.floor((this.#remaining() % period) / this.#nanosOf(1));
  }

  /** IA32_TSC_DEADLINE, unsigned halves; reads as 0 outside deadline mode, and the caller checks that. */
  get deadlineLow(): number {
    return this.#words[this.#a + CONTROL.DEADLINE_LOW] >>> 0;
  }

  get deadlineHigh(): number {
    return this.#words[this.#a + CONTROL.DEADLINE_HIGH] >>> 0;
  }

  writeDeadline(low: number, high: number): void {
    this.stop();
    this.#setDeadline(low, high);
    this.start(TMICT);
  }

  /** When `expire` wants to be called, in the host's nanoseconds; Infinity while nothing is armed. */
  deadlineNanos(): number {
    return this.#words[this.#a + CONTROL.TIMER_ARMED] === 0
      ? Number.POSITIVE_INFINITY
      : this.#memory.doubles[this.#target];
  }

  /** The clock reached `now`. True if an expiry is pending now that was not before. */
  expire(now: number): boolean {
    const words = this.#words;
    const doubles = this.#memory.doubles;
    if (words[this.#a + CONTROL.TIMER_ARMED] === 0 || now < doubles[this.#target]) return false;
    if (this.#mode === TIMER_MODE.PERIODIC && doubles[this.#period] !== 0) {
      // Missed periods are not caught up with.
      doubles[this.#target] = Math.max(doubles[this.#target] + doubles[this.#period], now);
    } else {
      this.stop();
    }
    if (this.pending) return false;
    words[this.#a + CONTROL.TIMER_PENDING] = 1;
    return true;
  }

  /** The pending expiry became an interrupt. */
  delivered(): void {
    this.clearPending();
    if (this.inDeadlineMode) this.#setDeadline(0, 0);
    else if (this.#mode === TIMER_MODE.ONE_SHOT) this.#memory.doubles[this.#target] = 0;
  }

  /** `countWord` is TMICT, or TMCCT when a saved state is taken over (__start_apic_timer). */
  start(countWord: number): void {
    this.clearPending();
    if (this.#counts && !this.#setTarget(countWord)) return;
    this.#arm();
  }

  #setTarget(countWord: number): boolean {
    const words = this.#words;
    const doubles = this.#memory.doubles;
    doubles[this.#period] = this.#nanosOf(words[this.#a + TMICT]);
    if (doubles[this.#period] === 0) return false;
    this.#limitPeriod();
    const period = doubles[this.#period];
    let left = period;
    if (countWord !== TMICT) {
      left = this.#nanosOf(words[this.#a + countWord]);
      if (left === 0) {
        left = this.#mode === TIMER_MODE.PERIODIC ? period : 0;
      } else if (left > period) {
        words[this.#a + countWord] = 0;
        left = period;
      }
    }
    doubles[this.#target] = this.#host.nowNanos() + left;
    return true;
  }

  #arm(): void {
    if (this.#mode !== TIMER_MODE.PERIODIC && this.pending) return;
    if (this.inDeadlineMode) this.#armDeadline();
    else if (this.#counts && this.#memory.doubles[this.#period] !== 0) this.#words[this.#a + CONTROL.TIMER_ARMED] = 1;
  }

  #armDeadline(): void {
    const { tscKhz } = this.#memory.options;
    const deadline = (BigInt(this.deadlineHigh) << 32n) | BigInt(this.deadlineLow);
    if (deadline === 0n || tscKhz === 0) return;
    const cycles = deadline - this.#host.guestTsc(this.#vcpuIndex);
    const nanos = cycles > 0n ? this.#behaviour.cyclesToNanos(cycles, tscKhz) : 0;
    this.#memory.doubles[this.#target] = this.#host.nowNanos() + nanos;
    this.#words[this.#a + CONTROL.TIMER_ARMED] = 1;
  }

  #setDeadline(low: number, high: number): void {
    this.#words[this.#a + CONTROL.DEADLINE_LOW] = low;
    this.#words[this.#a + CONTROL.DEADLINE_HIGH] = high;
  }

  #remaining(): number {
    return Math.max(0, this.#memory.doubles[this.#target] - this.#host.nowNanos());
  }

  #nanosOf(count: number): number {
    return (count >>> 0) * this.#memory.options.busCycleNanos * this.#words[this.#a + CONTROL.TIMER_DIVISOR];
  }

  #limitPeriod(): void {
    const doubles = this.#memory.doubles;
    if (this.#mode !== TIMER_MODE.PERIODIC || doubles[this.#period] === 0 || !this.#memory.rules.minimumPeriod) return;
    doubles[this.#period] = Math.max(doubles[this.#period], this.#memory.options.minTimerPeriodMicros * 1000);
  }
}
