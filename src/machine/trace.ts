/**
 * Routed interrupts on their way from the worker that routed them to the main thread, in batches. The outbox holds a
 * worker back that is too fast: tracing slows a guest down, it never grows the monitor.
 */
import type { RouteEvent } from '../apic/index.ts';

/** One routed interrupt, as `machine.on('trace')` gives it. */
export interface TraceEvent extends RouteEvent {
  /** When it was routed: nanoseconds of the host's monotonic clock. */
  readonly nanos: number;
}

const BATCH_EVENTS = 128;

export class TraceRecorder {
  #batch: TraceEvent[] = [];
  readonly #now: () => number;
  readonly #send: (events: readonly TraceEvent[]) => void;

  constructor(now: () => number, send: (events: readonly TraceEvent[]) => void) {
    this.#now = now;
    this.#send = send;
  }

  routed(event: RouteEvent): void {
    this.#batch.push({ ...event, nanos: this.#now() });
    if (this.#batch.length >= BATCH_EVENTS) this.flush();
  }

  flush(): void {
    if (this.#batch.length === 0) return;
    this.#send(this.#batch);
    this.#batch = [];
  }
}
