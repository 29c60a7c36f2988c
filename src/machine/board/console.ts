/**
 * Collects what the guest writes to its serial port, so that a line is one message to main and not eighty. A batch leaves
 * at a newline, when it is full, and at the latest after a few milliseconds. While main is busy, newlines do not count:
 * fewer and larger messages then, so that main gets to its signals and timers between them.
 */
const BATCH_BYTES = 4096;
const HOLD_NANOS = 5_000_000;
const NEWLINE = 10;

export class Console {
  readonly #send: (bytes: Uint8Array) => void;
  readonly #now: () => number;
  readonly #mainIsIdle: () => boolean;
  readonly #batch = new Uint8Array(BATCH_BYTES);
  #used = 0;
  #deadline = Number.POSITIVE_INFINITY;

  constructor(send: (bytes: Uint8Array) => void, now: () => number, mainIsIdle: () => boolean) {
    this.#send = send;
    this.#now = now;
    this.#mainIsIdle = mainIsIdle;
  }

  put(byte: number): void {
    if (this.#used === 0) this.#deadline = this.#now() + HOLD_NANOS;
    this.#batch[this.#used++] = byte;
    if (this.#used === BATCH_BYTES || (byte === NEWLINE && this.#mainIsIdle())) this.flush();
  }

  flush(): void {
    if (this.#used === 0) return;
    this.#send(this.#batch.slice(0, this.#used));
    this.#used = 0;
    this.#deadline = Number.POSITIVE_INFINITY;
  }

  deadlineNanos(): number {
    return this.#deadline;
  }

  advance(nowNanos: number): void {
    if (nowNanos >= this.#deadline) this.flush();
  }
}
