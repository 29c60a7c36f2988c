/**
 * What a worker tells main, with a limit: a guest writes faster to its serial port than main can hand it on, and messages
 * that nobody has read take memory. A worker that is too far ahead sleeps until main has caught up, or until it must stop.
 */
import type { MessagePort } from 'node:worker_threads';
import type { FromWorker } from './messages.ts';
import { Attention, type SharedState, WorkerWord } from './shared.ts';

/** Messages on their way from all workers together. One is at most a serial batch of 4 KiB or a batch of trace events. */
const MAX_BACKLOG = 64;
/** A single worker may be ahead by so many, at least and at most. */
const LEAST_BACKLOG = 2;
const MOST_BACKLOG = 32;
/** Who waits for room looks up this often, in case it must stop. */
export const STOP_CHECK_MS = 100;

/** The worker's side. */
export class Outbox {
  readonly #shared: SharedState;
  readonly #worker: number;
  readonly #port: MessagePort;
  readonly #maxBacklog: number;

  constructor(shared: SharedState, worker: number, port: MessagePort, maxBacklog: number) {
    this.#maxBacklog = maxBacklog;
    this.#shared = shared;
    this.#worker = worker;
    this.#port = port;
  }

  /** Main has dealt with everything. */
  get isEmpty(): boolean {
    return Atomics.load(this.#shared.words, this.backlogWord) === 0;
  }

  /** As far ahead as a worker may be: the value of `backlogWord`, else -1. */
  get full(): number {
    const backlog = Atomics.load(this.#shared.words, this.backlogWord);
    return backlog >= this.#maxBacklog ? backlog : -1;
  }

  /** Index in `words` of what main takes from as it catches up. */
  get backlogWord(): number {
    return this.#shared.worker(this.#worker, WorkerWord.backlog);
  }

  send(message: FromWorker): void {
    this.#waitForRoom();
    this.put(message);
  }

  /** As `send`, on main itself, which cannot wait for itself: there the worker stops running guests while it is `full`. */
  put(message: FromWorker): void {
    Atomics.add(this.#shared.words, this.backlogWord, 1);
    this.#port.postMessage(message);
  }

  /** Main never waits for a worker that waits here, so this ends. */
  #waitForRoom(): void {
    const { words, host } = this.#shared;
    const attention = this.#shared.worker(this.#worker, WorkerWord.attention);
    for (let waiting = this.full; waiting >= 0; waiting = this.full) {
      if (Atomics.load(words, attention) & Attention.stop) return;
      host.wait(words, this.backlogWord, waiting, STOP_CHECK_MS);
    }
  }
}

/** Main's side: it has dealt with a message of `worker`. */
export function messageTaken(shared: SharedState, worker: number): void {
  const backlog = shared.worker(worker, WorkerWord.backlog);
  Atomics.sub(shared.words, backlog, 1);
  Atomics.notify(shared.words, backlog);
}

/** @param workers that may come to be in the machine. @returns how far one of them may be ahead of main, in messages */
export function backlogFor(workers: number): number {
  return Math.min(MOST_BACKLOG, Math.max(LEAST_BACKLOG, Math.floor(MAX_BACKLOG / workers)));
}
