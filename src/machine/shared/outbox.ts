/**
 * What a worker tells main, with a limit: a guest writes faster to its serial port than main can hand it on, and messages
 * that nobody has read take memory. A worker that is too far ahead sleeps until main has caught up, or until it must stop.
 */
import type { MessagePort } from 'node:worker_threads';
import type { FromWorker } from './messages.ts';
import { Attention, type SharedState, WorkerWord } from './shared.ts';

/** Messages on their way. One is at most a serial batch of 4 KiB or a batch of trace events. */
const MAX_BACKLOG = 32;
const STOP_CHECK_MS = 100;

/** The worker's side. */
export class Outbox {
  readonly #shared: SharedState;
  readonly #worker: number;
  readonly #port: MessagePort;

  constructor(shared: SharedState, worker: number, port: MessagePort) {
    this.#shared = shared;
    this.#worker = worker;
    this.#port = port;
  }

  /** Main has dealt with everything. */
  get isEmpty(): boolean {
    return Atomics.load(this.#shared.words, this.#shared.worker(this.#worker, WorkerWord.backlog)) === 0;
  }

  send(message: FromWorker): void {
    this.#waitForRoom();
    Atomics.add(this.#shared.words, this.#shared.worker(this.#worker, WorkerWord.backlog), 1);
    this.#port.postMessage(message);
  }

  /** Main never waits for a worker that waits here, so this ends. */
  #waitForRoom(): void {
    const { words, host } = this.#shared;
    const backlog = this.#shared.worker(this.#worker, WorkerWord.backlog);
    const attention = this.#shared.worker(this.#worker, WorkerWord.attention);
    for (let waiting = Atomics.load(words, backlog); waiting >= MAX_BACKLOG; waiting = Atomics.load(words, backlog)) {
      if (Atomics.load(words, attention) & Attention.stop) return;
      host.wait(words, backlog, waiting, STOP_CHECK_MS);
    }
  }
}

/** Main's side: it has dealt with a message of `worker`. */
export function messageTaken(shared: SharedState, worker: number): void {
  const backlog = shared.worker(worker, WorkerWord.backlog);
  if (Atomics.sub(shared.words, backlog, 1) >= MAX_BACKLOG) Atomics.notify(shared.words, backlog);
}
