/**
 * The reset control register of PC chipsets (I/O port 0xcf9, Intel ICH9 data sheet section 13.7.5): writing bit 2 as 1
 * resets, bit 1 says how: 0 sends INIT to the CPUs, 1 resets the whole machine. QEMU resets the machine either way.
 *
 * It sits in the middle of the PCI configuration address register, whose 32-bit writes must not reach it. There is no PCI
 * here, so the device claims 0xcf8-0xcfb: a byte access to 0xcf9 is the register, all others read all ones and do nothing.
 */
import { PLATFORM, RESET_CONTROL } from '../platform.ts';
import type { Board, Device } from './device.ts';

const OFFSET = RESET_CONTROL.PORT - PLATFORM.PCI_ADDRESS.base;
const RESET = 0x04;
const HARD = 0x02;
/** System or CPU reset, and full power cycle, read back as written. */
const STORED = 0x0a;

export class ResetControl implements Device {
  readonly name = 'reset-control';
  readonly ranges = [PLATFORM.PCI_ADDRESS];
  readonly #board: Board;
  #value = 0;

  constructor(board: Board) {
    this.#board = board;
  }

  read(_rangeIndex: number, offset: number, size: number): number {
    if (size === 1) return offset === OFFSET ? this.#value : 0xff;
    return size === 2 ? 0xffff : 0xffffffff;
  }

  write(_rangeIndex: number, offset: number, size: number, value: number): void {
    if (size !== 1 || offset !== OFFSET) return;
    this.#value = value & STORED;
    if (value & RESET) this.#board.report({ type: 'reset', kind: value & HARD ? 'hard' : 'init' });
  }

  reset(): void {
    this.#value = 0;
  }

  save(): { value: number } {
    return { value: this.#value };
  }

  restore({ value }: { readonly value: number }): void {
    this.#value = value;
  }
}
