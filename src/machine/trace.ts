/**
 * Routed interrupts on their way from the worker that routed them to the main thread: in batches, and never more batches
 * at once than main keeps up with. A worker that is too fast waits; tracing slows a guest down, it never grows the monitor.
 */
import type { RouteEvent } from '../apic/index.ts';
import { Attention, type SharedState, WorkerWord } from './shared.ts';

/** One routed interrupt, as `machine.on('trace')` gives it. */
export interface TraceEvent extends RouteEvent {
  /** When it was routed: nanoseconds of the host's monotonic clock. */
  readonly nanos: number;
}

const BATCH_EVENTS = 256;
const MAX_BATCHES = 8;
const STOP_CHECK_MS = 100;

/** The worker's side. */
export class TraceRecorder {
  #batch: TraceEvent[] = [];
  readonly #shared: SharedState;
  readonly #worker: number;
  readonly #now: () => number;
  readonly #send: (events: readonly TraceEvent[]) => void;

  constructor(shared: SharedState, worker: number, now: () => number, send: (events: readonly TraceEvent[]) => void) {
    this.#shared = shared;
    this.#worker = worker;
    this.#now = now;
    this.#send = send;
  }

  routed(event: RouteEvent): void {
    this.#batch.push({ ...event, nanos: this.#now() });
    if (this.#batch.length >= BATCH_EVENTS) this.flush();
  }

  flush(): void {
    if (this.#batch.length === 0) return;
    this.#waitForRoom();
    Atomics.add(this.#shared.words, this.#shared.worker(this.#worker, WorkerWord.traceBacklog), 1);
    this.#send(this.#batch);
    this.#batch = [];
  }

  #waitForRoom(): void {
    const { words } = this.#shared;
    const backlog = this.#shared.worker(this.#worker, WorkerWord.traceBacklog);
    const attention = this.#shared.worker(this.#worker, WorkerWord.attention);
    for (let waiting = Atomics.load(words, backlog); waiting >= MAX_BATCHES; waiting = Atomics.load(words, backlog)) {
      if (Atomics.load(words, attention) & Attention.stop) return;
      Atomics.wait(words, backlog, waiting, STOP_CHECK_MS);
    }
  }
}

/** Main's side: a batch of `worker` has been dealt with. */
export function traceBatchDone(shared: SharedState, worker: number): void {
  const backlog = shared.worker(worker, WorkerWord.traceBacklog);
  Atomics.sub(shared.words, backlog, 1);
  Atomics.notify(shared.words, backlog);
}
