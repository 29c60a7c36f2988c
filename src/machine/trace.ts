/**
 * Records of routed interrupts on their way from the worker that routed them to the main thread. A worker fills one batch
 * at a time and hands it over (transferred, not copied) when it is full and whenever the worker has nothing to run.
 *
 * A record is RECORD_HEADER words and then one word for each vCPU that took the interrupt:
 *
 *   0 words in this record   1-2 time, nanoseconds, low and high     3 source vCPU, or -1 for an MSI or a device
 *   4 destination            5 bits: 0 logical, 2:1 path (map, scan, self), 5:3 shorthand, 10:8 delivery mode, 16 level
 *   6 vector                 7 what the router answered: how many took it, or -1
 */
export const RECORD_HEADER = 8;
const BATCH_WORDS = 16_384;

export type TracePath = 'map' | 'scan' | 'self';

/** One routed interrupt, as `machine.on('trace')` gives it. */
export interface TraceEvent {
  /** Nanoseconds of the host's monotonic clock. */
  readonly nanos: number;
  readonly worker: number;
  /** Index of the sending vCPU, or -1 for a device or an MSI. */
  readonly source: number;
  readonly destination: number;
  readonly logical: boolean;
  /** 0 none, 1 self, 2 all including self, 3 all excluding self. */
  readonly shorthand: number;
  /** The ICR's delivery mode, 0-7. */
  readonly deliveryMode: number;
  readonly level: boolean;
  readonly vector: number;
  readonly path: TracePath;
  /** Indexes of the vCPUs that took it. */
  readonly targets: readonly number[];
}

const PATHS: readonly TracePath[] = ['map', 'scan', 'self'];

export class TraceRecorder {
  #batch = new Int32Array(BATCH_WORDS);
  #used = 0;
  readonly #send: (batch: Int32Array<ArrayBuffer>, used: number) => void;

  constructor(send: (batch: Int32Array<ArrayBuffer>, used: number) => void) {
    this.#send = send;
  }

  /** @param targets indexes of the vCPUs that took it, the first `count` of them */
  record(event: Omit<TraceEvent, 'targets' | 'worker'>, targets: ArrayLike<number>, count: number): void {
    const words = RECORD_HEADER + count;
    if (this.#used + words > BATCH_WORDS) this.flush();
    if (words > BATCH_WORDS) return;
    const at = this.#used;
    const batch = this.#batch;
    batch[at] = words;
    batch[at + 1] = event.nanos | 0;
    batch[at + 2] = (event.nanos / 2 ** 32) | 0;
    batch[at + 3] = event.source;
    batch[at + 4] = event.destination | 0;
    batch[at + 5] =
      (event.logical ? 1 : 0) |
      (PATHS.indexOf(event.path) << 1) |
      (event.shorthand << 3) |
      (event.deliveryMode << 8) |
      (event.level ? 1 << 16 : 0);
    batch[at + 6] = event.vector;
    batch[at + 7] = count;
    for (let index = 0; index < count; index++) batch[at + RECORD_HEADER + index] = targets[index] ?? -1;
    this.#used += words;
  }

  flush(): void {
    if (this.#used === 0) return;
    this.#send(this.#batch, this.#used);
    this.#batch = new Int32Array(BATCH_WORDS);
    this.#used = 0;
  }
}

/** @param used words of `batch` that hold records */
export function* decodeTrace(worker: number, batch: Int32Array, used: number): Generator<TraceEvent> {
  for (let at = 0; at < used; at += batch[at]) {
    const bits = batch[at + 5];
    yield {
      nanos: (batch[at + 1] >>> 0) + batch[at + 2] * 2 ** 32,
      worker,
      source: batch[at + 3],
      destination: batch[at + 4] >>> 0,
      logical: (bits & 1) !== 0,
      path: PATHS[(bits >> 1) & 3] ?? 'scan',
      shorthand: (bits >> 3) & 7,
      deliveryMode: (bits >> 8) & 7,
      level: (bits & (1 << 16)) !== 0,
      vector: batch[at + 6],
      targets: [...batch.subarray(at + RECORD_HEADER, at + RECORD_HEADER + batch[at + 7])],
    };
  }
}
