/**
 * The run loop of one worker: its home vCPUs in turn, each until it halts, or until its time slice ends when others are
 * ready too. A halted vCPU costs nothing; a worker with nothing ready sleeps on its attention word until its next timer.
 *
 * The order of the loads and stores around KVM_RUN is what keeps a wake-up from being lost: see shared.ts. An atomic access
 * costs 7 ns and each exit is 1-8 us, so only those that order something are atomic.
 *
 * A worker's own thread gives it `loop`. Main, where worker 0 begins (opening.ts), gives it `turn` after `turn`, and sleeps
 * for it.
 */
import { KvmError } from '../../kvm/errors.ts';
import type { HostThread } from '../shared/host-thread.ts';
import type { DevicePort } from '../shared/mailbox.ts';
import { Attention, GUEST_IDLE, GUEST_NONE, guestCode, type SharedState, WorkerWord } from '../shared/shared.ts';
import type { Cpu } from './cpu.ts';
import { enterGuest, Left } from './enter.ts';
import { type EndMachine, FAILURE_STATUS, handleExit } from './exits.ts';
import { describeFailure } from './failure.ts';
import { TimerTable } from './timer-table.ts';

/** How long a vCPU runs while others are ready. */
const SLICE_NANOS = 1_000_000;

/** What the scheduler asks of the rest of its worker. */
export interface SchedulerHooks {
  readonly devices: DevicePort;
  readonly end: EndMachine;
  /** The control port may have messages. */
  control(): void;
  /** Worker 0: answer the other workers' device requests. */
  serveMailboxes(): void;
  /** Worker 0: the devices' next deadline, and their clock. Nanoseconds. */
  deviceDeadlineNanos(): number;
  advanceDevices(nowNanos: number): void;
  /** Nothing to run: hand over what was held back (console, trace). */
  idle(): void;
  /** No vCPU of the machine can run again, unless a device sees to it. Called again at each sleep while that is so. */
  haltedForGood(): void;
  firstRun(cpu: Cpu): void;
}

export class Scheduler {
  readonly #shared: SharedState;
  readonly #words: SharedState['words'];
  readonly #host: HostThread;
  readonly #worker: number;
  readonly #hooks: SchedulerHooks;
  readonly #attention: number;
  readonly #guest: number;
  readonly #row: number;
  readonly #cpus: (Cpu | undefined)[] = [];
  readonly #timers: TimerTable;
  #armed = Number.POSITIVE_INFINITY;
  /** When the turn ends, in nanoseconds; Infinity for a loop that has its thread to itself. */
  #turnEnd = Number.POSITIVE_INFINITY;
  #last = 0;
  #started = false;
  #stopping = false;

  constructor(shared: SharedState, worker: number, hooks: SchedulerHooks) {
    this.#shared = shared;
    this.#words = shared.words;
    this.#host = shared.host;
    this.#worker = worker;
    this.#hooks = hooks;
    this.#attention = shared.worker(worker, WorkerWord.attention);
    this.#guest = shared.worker(worker, WorkerWord.guest);
    this.#row = shared.readyRow(worker);
    this.#timers = new TimerTable(shared.maxVcpus);
  }

  addCpu(cpu: Cpu): void {
    this.#cpus[cpu.vcpuIndex] = cpu;
    this.#setReady(cpu.vcpuIndex);
  }

  cpu(vcpuIndex: number): Cpu | undefined {
    return this.#cpus[vcpuIndex];
  }

  /** Until then vCPUs may be added, but none runs. */
  start(): void {
    this.#started = true;
  }

  /** No vCPU of this worker runs until `start`. */
  hold(): void {
    this.#started = false;
  }

  /** After something changed a vCPU from outside: look at it again, and at its timer. */
  review(cpu: Cpu): void {
    this.#setTimer(cpu);
    this.#setReady(cpu.vcpuIndex);
  }

  get cpus(): Cpu[] {
    return this.#cpus.filter((cpu) => cpu !== undefined);
  }

  get isStarted(): boolean {
    return this.#started;
  }

  /** Attention.stop has been seen: nothing runs any more. */
  get isOver(): boolean {
    return this.#stopping;
  }

  /** Until somebody sets Attention.stop. */
  loop(): void {
    const words = this.#words;
    while (!this.#stopping) {
      if (this.#step()) continue;
      const deadline = this.#fallAsleep();
      const waitMs = (deadline - this.#host.nowNanos()) / 1e6;
      if (waitMs > 0) this.#host.wait(words, this.#attention, 0, waitMs);
      this.#wakeUp();
    }
    this.leave();
  }

  /**
   * `loop` for a thread that has other things to do as well: until `untilNanos` at the latest, until `endTurn`, or until it would
   * sleep.
   * @returns when it wants its next turn, in nanoseconds; with a sleep before it, sooner if the attention word is not 0
   */
  turn(untilNanos: number): number {
    this.#wakeUp();
    this.#turnEnd = untilNanos;
    try {
      while (!this.#stopping && !this.#isTurnOver()) {
        if (!this.#step()) return this.#fallAsleep();
      }
      return 0;
    } finally {
      this.leave(); // the timer is the thread's, which may have others to give turns to
    }
  }

  /** No vCPU enters its guest before the next turn. */
  endTurn(): void {
    this.#turnEnd = 0;
  }

  /** This thread is done with it: nothing rings here any more. */
  leave(): void {
    this.#armed = Number.POSITIVE_INFINITY;
    this.#host.armTimer(Number.POSITIVE_INFINITY);
  }

  #isTurnOver(): boolean {
    return this.#turnEnd !== Number.POSITIVE_INFINITY && this.#host.nowNanos() >= this.#turnEnd;
  }

  /** @returns whether there was something to do */
  #step(): boolean {
    this.#attend();
    this.#expireTimers(this.#host.nowNanos());
    if (this.#stopping) return true;
    const cpu = this.#started ? this.#nextReady() : undefined;
    if (cpu) this.#runSlice(cpu);
    return cpu !== undefined;
  }

  #runSlice(cpu: Cpu): void {
    const { interrupts } = cpu;
    const words = this.#words;
    const request = this.#shared.request(cpu.vcpuIndex);
    if (!cpu.hasRun) this.#hooks.firstRun(cpu);
    let sliceEnd = this.#othersReady(cpu.vcpuIndex) ? this.#host.nowNanos() + SLICE_NANOS : Number.POSITIVE_INFINITY;
    while (this.#started && !this.#stopping && !this.#isTurnOver()) {
      const woken = words[request] !== 0;
      if (woken) Atomics.store(words, request, 0);
      if (!interrupts.prepare(woken)) {
        this.#setTimer(cpu);
        this.#clearReady(cpu.vcpuIndex);
        if (Atomics.load(words, request) !== 0) this.#setReady(cpu.vcpuIndex);
        return;
      }
      this.#arm(cpu, sliceEnd);
      Atomics.store(words, this.#guest, guestCode(cpu.vcpuIndex, sliceEnd !== Number.POSITIVE_INFINITY));
      // Plain loads see what they must after the atomic store above, which is a full fence.
      if (words[this.#attention] !== 0) {
        Atomics.store(words, this.#guest, GUEST_NONE);
        if (this.#attend() && sliceEnd === Number.POSITIVE_INFINITY && this.#othersReady(cpu.vcpuIndex)) {
          sliceEnd = this.#host.nowNanos() + SLICE_NANOS;
        }
        continue;
      }
      if (words[request] !== 0) {
        Atomics.store(words, this.#guest, GUEST_NONE);
        continue;
      }
      const left = enterGuest(cpu);
      words[this.#guest] = GUEST_NONE; // plain: who still sees the old value sends a kick too many
      if (left === Left.exit) {
        // A timer that ran out before the guest got here comes first: a guest that waited by its TSC can tell.
        if (this.#timers.next !== Number.POSITIVE_INFINITY) this.#expireTimers(this.#host.nowNanos());
        cpu.trace?.exit(cpu.vcpuIndex, cpu.run.exitReason);
        handleExit(cpu, this.#hooks.devices, this.#hooks.end);
        if (!interrupts.settled) this.#setTimer(cpu);
      } else if (left === Left.interrupted) {
        const now = this.#host.nowNanos();
        this.#expireTimers(now);
        if (now >= sliceEnd) {
          if (this.#othersReady(cpu.vcpuIndex)) return;
          sliceEnd = Number.POSITIVE_INFINITY;
        }
      } else {
        const error = new KvmError('KVM_RUN', -left);
        this.#hooks.end('internal-error', FAILURE_STATUS, describeFailure(cpu, error.message));
        return;
      }
    }
  }

  /** @returns whether another vCPU may have become ready. */
  #attend(): boolean {
    const bits = Atomics.exchange(this.#words, this.#attention, 0);
    if (bits & Attention.stop) {
      this.#stopping = true;
      Atomics.or(this.#words, this.#attention, Attention.stop); // stays: whoever waits for another thread looks at it
    }
    if (bits & Attention.pause) this.#pause();
    if (bits & Attention.control) this.#hooks.control();
    if (bits & Attention.mailbox) this.#hooks.serveMailboxes();
    return (bits & Attention.reschedule) !== 0;
  }

  /** Main wants the vCPU's descriptor for itself: stay out of KVM_RUN until it is done. */
  #pause(): void {
    const pause = this.#shared.worker(this.#worker, WorkerWord.pause);
    while (Atomics.load(this.#words, pause) !== 0) this.#host.wait(this.#words, pause, 1, 1000);
  }

  /** @returns until when to sleep while the attention word is 0, in nanoseconds */
  #fallAsleep(): number {
    const words = this.#words;
    this.#hooks.idle();
    if (this.#started && this.#shared.isHaltedForGood()) this.#hooks.haltedForGood();
    Atomics.store(words, this.#guest, GUEST_IDLE);
    return Math.min(this.#timers.next, this.#hooks.deviceDeadlineNanos());
  }

  #wakeUp(): void {
    Atomics.store(this.#words, this.#guest, GUEST_NONE);
  }

  /** Sees to it that KVM_RUN ends in time for the next timer, device, end of a slice or turn, or second look. */
  #arm(cpu: Cpu, sliceEnd: number): void {
    let deadline = Math.min(this.#timers.next, this.#hooks.deviceDeadlineNanos(), sliceEnd, this.#turnEnd);
    const { recheckNanos } = cpu.interrupts;
    if (recheckNanos !== Number.POSITIVE_INFINITY) deadline = Math.min(deadline, this.#host.nowNanos() + recheckNanos);
    if (deadline >= this.#armed) return; // an earlier one is set and will make us look again
    this.#armed = deadline;
    this.#host.armTimer(deadline);
  }

  #setTimer(cpu: Cpu): void {
    if (cpu.apic !== null) this.#timers.set(cpu.vcpuIndex, cpu.apic.timerDeadlineNanos());
  }

  #expireTimers(now: number): void {
    if (now >= this.#armed) this.#armed = Number.POSITIVE_INFINITY;
    if (now >= this.#hooks.deviceDeadlineNanos()) this.#hooks.advanceDevices(now);
    while (now >= this.#timers.next) {
      const cpu = this.#cpus[this.#timers.takeDue()];
      if (!cpu?.apic) continue;
      cpu.apic.expireTimer(now); // wakes the vCPU, if its interrupt is not masked
      this.#setTimer(cpu);
    }
  }

  /** Also makes a vCPU that runs now share its time. */
  #setReady(vcpuIndex: number): void {
    Atomics.or(this.#words, this.#row + (vcpuIndex >>> 5), 1 << (vcpuIndex & 31));
    Atomics.or(this.#words, this.#attention, Attention.reschedule);
  }

  #clearReady(vcpuIndex: number): void {
    Atomics.and(this.#words, this.#row + (vcpuIndex >>> 5), ~(1 << (vcpuIndex & 31)));
  }

  /** The next ready vCPU after the last one, round robin. */
  #nextReady(): Cpu | undefined {
    const { rowWords } = this.#shared;
    const first = (this.#last + 1) >>> 5;
    const mask = -1 << ((this.#last + 1) & 31);
    for (let step = 0; step <= rowWords; step++) {
      const word = (first + step) % rowWords;
      const bits = Atomics.load(this.#words, this.#row + word) & (step === 0 ? mask : -1);
      if (bits === 0) continue;
      const vcpuIndex = word * 32 + 31 - Math.clz32(bits & -bits);
      const cpu = this.#cpus[vcpuIndex];
      if (!cpu) {
        this.#clearReady(vcpuIndex);
        continue;
      }
      this.#last = vcpuIndex;
      return cpu;
    }
    return undefined;
  }

  #othersReady(vcpuIndex: number): boolean {
    const own = vcpuIndex >>> 5;
    for (let word = 0; word < this.#shared.rowWords; word++) {
      const bits = Atomics.load(this.#words, this.#row + word);
      if (bits !== 0 && (word !== own || bits !== 1 << (vcpuIndex & 31))) return true;
    }
    return false;
  }
}
