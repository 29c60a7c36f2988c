/**
 * The port through which the firmware (src/boot/firmware.ts) asks the machine to start the image: what a PC's firmware does
 * itself once it has found that nobody waits to be resumed. Write-only; any value.
 */
import type { AddressRange, Device } from './device.ts';

export class FirmwareStart implements Device {
  readonly name = 'firmware-start';
  readonly ranges: readonly AddressRange[];
  readonly #onStart: () => void;

  constructor(port: number, onStart: () => void) {
    this.ranges = [{ space: 'pio', base: port, length: 1 }];
    this.#onStart = onStart;
  }

  read(): number {
    return 0xff;
  }

  write(): void {
    this.#onStart();
  }

  reset(): void {}
}
