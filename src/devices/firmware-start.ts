/**
 * The port through which the firmware (src/boot/firmware.ts) asks the machine to start the image: what a PC's firmware does
 * itself once it has found that nobody waits to be resumed. Write-only; any value.
 */
import { PLATFORM } from '../platform.ts';
import type { Board, Device } from './device.ts';

export class FirmwareStart implements Device {
  readonly name = 'firmware-start';
  readonly ranges = [PLATFORM.FIRMWARE];
  readonly #board: Board;

  constructor(board: Board) {
    this.#board = board;
  }

  read(): number {
    return 0xff;
  }

  write(): void {
    this.#board.report({ type: 'restart' });
  }

  reset(): void {}

  save(): object {
    return {};
  }

  restore(): void {}
}
