/**
 * What a thread of the machine asks of its host beside shared memory: time, one timer, a kick of another thread, sleep.
 * Handed in, so that a run loop also works where the host is a test or an explorer (loop/scripted-vcpu.ts), without KVM and
 * without the addon; native-host.ts is the real one.
 */
export interface HostThread {
  /** Monotonic, in nanoseconds. */
  nowNanos(): number;
  /** This thread's one timer: its KVM_RUN ends at `deadlineNanos`, at once when that has passed; Infinity disarms. */
  armTimer(deadlineNanos: number): void;
  /** Ends the KVM_RUN that a thread is in, or its next one. @returns false when the thread is gone */
  kick(threadId: number): boolean;
  /** Sleeps while `words[index]` is `value`, until notified or for `millis`, which may be Infinity (Atomics.wait). */
  wait(words: Int32Array<SharedArrayBuffer>, index: number, value: number, millis: number): void;
}
