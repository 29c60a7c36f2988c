/**
 * The debug exit port (QEMU's isa-debug-exit at I/O port 0xf4, 4 ports long): a guest's write of v ends the run with
 * status (v << 1) | 1, so a guest can never end it with 0. Reads answer 0, as there.
 */
import type { AddressRange, Device } from './device.ts';

export class DebugExit implements Device {
  readonly name = 'debug-exit';
  readonly ranges: readonly AddressRange[];
  readonly #onExit: (status: number) => void;

  /** @param onExit is given the whole unsigned 32-bit status; a Unix exit status is its low 8 bits */
  constructor(onExit: (status: number) => void, port = 0xf4) {
    this.#onExit = onExit;
    this.ranges = [{ space: 'pio', base: port, length: 4 }];
  }

  read(): number {
    return 0;
  }

  write(_rangeIndex: number, _offset: number, _size: number, value: number): void {
    this.#onExit(((value << 1) | 1) >>> 0);
  }

  reset(): void {}
}
