/**
 * A host for run loops that need no real one: a clock that stands until somebody moves it, a timer, kicks and sleep, all on
 * one thread. For tests and for exploring schedules; one object for each thread of the machine.
 */
import type { HostThread } from '../shared/host-thread.ts';

const MAX_LOOKS = 20_000;

export class ScriptedHost implements HostThread {
  readonly threadId: number;
  /** Nanoseconds. */
  now = 0;
  /** What the timer is set to; Infinity when it is not. */
  armed = Number.POSITIVE_INFINITY;
  /** A kick, or the timer, that ends the next KVM_RUN of this thread. */
  kicked = false;
  /** Threads that this one kicked, in order. */
  readonly kicks: number[] = [];
  /** How long each sleep was to be, in milliseconds. */
  readonly sleeps: number[] = [];
  /** What happens elsewhere while this thread sleeps: one call for each sleep, or more if a call does not end it. */
  readonly whileAsleep: (() => void)[] = [];
  readonly #peers: Map<number, ScriptedHost>;
  #looks = 0;

  /** @param peers the threads that can kick one another, by thread ID; this one is added */
  constructor(threadId = 1, peers: Map<number, ScriptedHost> = new Map()) {
    this.threadId = threadId;
    this.#peers = peers;
    peers.set(threadId, this);
  }

  /** @throws Error after very many looks without a sleep's or a guest's time passing: the loop turns on the spot */
  nowNanos(): number {
    if (++this.#looks > MAX_LOOKS) throw new Error('the loop turns on the spot');
    return this.now;
  }

  armTimer(deadlineNanos: number): void {
    this.armed = deadlineNanos;
    this.#ring();
  }

  kick(threadId: number): boolean {
    this.kicks.push(threadId);
    const peer = this.#peers.get(threadId);
    if (peer === undefined) return false;
    peer.kicked = true;
    return true;
  }

  /** @throws Error when nothing can end the sleep */
  wait(words: Int32Array<SharedArrayBuffer>, index: number, value: number, millis: number): void {
    if (Atomics.load(words, index) !== value) return;
    this.sleeps.push(millis);
    do {
      const meanwhile = this.whileAsleep.shift();
      if (meanwhile === undefined && millis === Number.POSITIVE_INFINITY) {
        throw new Error('the thread sleeps, and nobody is left to wake it');
      }
      meanwhile?.();
    } while (Atomics.load(words, index) === value && millis === Number.POSITIVE_INFINITY);
    if (Atomics.load(words, index) === value) this.advance(millis * 1e6);
  }

  /** Time passes, in nanoseconds; the timer rings when it is over. */
  advance(nanos: number): void {
    if (nanos > 0) this.#looks = 0;
    this.now += nanos;
    this.#ring();
  }

  /** Uses a kick up. @returns whether there was one */
  takeKick(): boolean {
    const { kicked } = this;
    this.kicked = false;
    return kicked;
  }

  #ring(): void {
    if (this.armed > this.now) return;
    this.armed = Number.POSITIVE_INFINITY;
    this.kicked = true;
  }
}
