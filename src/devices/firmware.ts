/**
 * The ports through which the firmware (src/boot/firmware.ts) speaks to the machine; no device of a PC is there.
 *
 *     0  any width: start the image, which a PC's firmware does itself once it has found that nobody waits to be resumed
 *     2  16 bits: AX of a BIOS call      4  16 bits: its interrupt vector; the call is reported, the first of a run only
 *
 * Write-only.
 */
import { FIRMWARE_CALL, PLATFORM } from '../platform.ts';
import type { Board, Device } from './device.ts';

interface State {
  ax: number;
  /** A call was reported: a guest that calls for ever is told of once. */
  told: boolean;
}

export class Firmware implements Device {
  readonly name = 'firmware';
  readonly ranges = [PLATFORM.FIRMWARE];
  readonly #board: Board;
  #state: State = { ax: 0, told: false };

  constructor(board: Board) {
    this.#board = board;
  }

  read(_rangeIndex: number, _offset: number, size: number): number {
    return size === 4 ? 0xffffffff : (1 << (8 * size)) - 1;
  }

  write(_rangeIndex: number, offset: number, _size: number, value: number): void {
    if (offset === 0) this.#board.report({ type: 'restart' });
    else if (offset === FIRMWARE_CALL.AX) this.#state.ax = value & 0xffff;
    else if (offset === FIRMWARE_CALL.VECTOR && !this.#state.told) {
      this.#state.told = true;
      this.#board.report({ type: 'bios-call', vector: value & 0xff, ax: this.#state.ax });
    }
  }

  /** It stays known that a call was reported. */
  reset(): void {
    this.#state.ax = 0;
  }

  save(): State {
    return { ...this.#state };
  }

  restore(state: Readonly<State>): void {
    this.#state = { ...state };
  }
}
