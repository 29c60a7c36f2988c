/**
 * The debug exit port (QEMU's isa-debug-exit at I/O port 0xf4, 4 ports long): a guest's write of v ends the run with
 * status (v << 1) | 1, so a guest can never end it with 0. Reads answer 0, as there.
 */
import { PLATFORM } from '../platform.ts';
import type { Board, Device } from './device.ts';

export class DebugExit implements Device {
  readonly name = 'debug-exit';
  readonly ranges = [PLATFORM.DEBUG_EXIT];
  readonly #board: Board;

  constructor(board: Board) {
    this.#board = board;
  }

  read(): number {
    return 0;
  }

  write(_rangeIndex: number, _offset: number, _size: number, value: number): void {
    this.#board.report({ type: 'debug-exit', status: ((value << 1) | 1) >>> 0 });
  }

  reset(): void {}

  save(): object {
    return {};
  }

  restore(): void {}
}
