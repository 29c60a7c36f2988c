/** What was typed and does not fit into the serial port's queue yet, in order. */
import type { Serial } from '../../devices/serial.ts';

export class SerialInput {
  readonly #serial: Serial;
  readonly #waiting: { bytes: Uint8Array; readonly taken: () => void }[] = [];

  constructor(serial: Serial) {
    this.#serial = serial;
  }

  /** @param taken called once the port's queue has all of `bytes` */
  type(bytes: Uint8Array, taken: () => void): void {
    this.#waiting.push({ bytes, taken });
    this.offer();
  }

  /** What the port has not taken yet: a piece for each `type` that is not told so. */
  get rest(): readonly Uint8Array[] {
    return this.#waiting.map(({ bytes }) => bytes);
  }

  /** The port has room again. */
  offer(): void {
    for (let first = this.#waiting[0]; first !== undefined; first = this.#waiting[0]) {
      first.bytes = first.bytes.subarray(this.#serial.receive(first.bytes));
      if (first.bytes.length > 0) return;
      this.#waiting.shift();
      first.taken();
    }
  }
}
