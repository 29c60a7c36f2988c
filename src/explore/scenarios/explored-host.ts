/**
 * The host of a thread whose schedules are explored: a kick is a word that a guest sleeps on, as KVM_RUN waits for a signal,
 * so that the explorer sees both. The clock stands; an armed timer rings when nobody else can go on.
 */
import { ExitReason } from '../../kvm/constants.ts';
import { ScriptedHost } from '../../machine/loop/scripted-host.ts';
import type { ScriptedStep, ScriptedVcpu } from '../../machine/loop/scripted-vcpu.ts';

const EINTR = 4;
const ANY_LIMIT_MS = 1;

export class ExploredHost extends ScriptedHost {
  readonly #kicks: Int32Array;

  /** @param threadId of this thread: the word of `kicks` that others set to kick it */
  constructor(threadId: number, kicks: Int32Array) {
    super(threadId);
    this.#kicks = kicks;
  }

  override kick(threadId: number): boolean {
    Atomics.store(this.#kicks, threadId, 1);
    Atomics.notify(this.#kicks, threadId);
    return true;
  }

  override takeKick(): boolean {
    return Atomics.exchange(this.#kicks, this.threadId, 0) !== 0;
  }

  override wait(words: Int32Array<SharedArrayBuffer>, index: number, value: number, millis: number): void {
    Atomics.wait(words, index, value, millis);
  }

  override armTimer(deadlineNanos: number): void {
    this.armed = deadlineNanos;
  }

  /** A step of a script: the guest runs, interrupts on, until a kick or the timer ends it. */
  readonly spin = ({ run }: ScriptedVcpu): ScriptedStep => {
    if (run.requestInterruptWindow) return { exitReason: ExitReason.IRQ_WINDOW_OPEN, ifFlag: true };
    while (!this.takeKick()) {
      const limit = this.armed === Number.POSITIVE_INFINITY ? this.armed : ANY_LIMIT_MS;
      if (Atomics.wait(this.#kicks, this.threadId, 0, limit) !== 'timed-out') continue;
      this.now = this.armed;
      this.armed = Number.POSITIVE_INFINITY;
      break;
    }
    return -EINTR;
  };
}
