/**
 * The debug consoles of Bochs (port 0xe9) and of QEMU's isa-debugcon (0x402): each byte written is text, and a read answers
 * 0xe9, by which a guest finds that somebody listens. For hvmloader, GRUB's PVH stub, SeaBIOS and Bochs' BIOS it is the only
 * voice.
 */
import { PLATFORM } from '../platform.ts';
import type { Board, Device } from './device.ts';

const PRESENT = 0xe9;

export class DebugConsole implements Device {
  readonly name = 'debug-console';
  readonly ranges = [PLATFORM.DEBUG_CONSOLE_BOCHS, PLATFORM.DEBUG_CONSOLE_QEMU];
  readonly #board: Board;
  readonly #written = { type: 'debug-output', byte: 0 } as { readonly type: 'debug-output'; byte: number };

  constructor(board: Board) {
    this.#board = board;
  }

  read(): number {
    return PRESENT;
  }

  write(_rangeIndex: number, _offset: number, _size: number, value: number): void {
    this.#written.byte = value;
    this.#board.report(this.#written);
  }

  reset(): void {}

  save(): object {
    return {};
  }

  restore(): void {}
}
