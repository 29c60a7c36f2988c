/**
 * QEMU's pc-testdev (hw/misc/pc-testdev.c), which kvm-unit-tests drive:
 *
 *     0x00e0-0x00e3  one 32-bit scratch register, any access size      0x00e8-0x00eb  the same register, byte by byte, but for
 *                                                                        0xe9, which is the debug console's
 *     0x00e4-0x00e7  flush a page (a hint to the monitor's MMU; nothing to do here), reads all ones
 *     0x2000-0x2017  interrupt line n: writing a byte other than 0 raises it, 0 lowers it; reads all ones
 *     0xff000000     64 KiB of MMIO that behaves as memory
 */
import { GSI_COUNT, PLATFORM } from '../platform.ts';
import type { Board, Device, Line } from './device.ts';
import { restoredBytes, type Saved, savedBytes } from './state.ts';

const RANGE = { SCRATCH: 0, FLUSH: 1, SCRATCH_BYTES: 2, LINES: 3, MEMORY: 4, SCRATCH_HIGH_BYTES: 5 } as const;
const HIGH_OFFSET = PLATFORM.TEST_SCRATCH_HIGH_BYTES.base - PLATFORM.TEST_SCRATCH_BYTES.base;

interface State {
  readonly scratch: Uint8Array;
  readonly memory: Uint8Array;
}

function powerUp(): State {
  return { scratch: new Uint8Array(PLATFORM.TEST_SCRATCH.length), memory: new Uint8Array(PLATFORM.TEST_MEMORY.length) };
}

export class TestDevice implements Device {
  readonly name = 'pc-testdev';
  readonly ranges = [
    PLATFORM.TEST_SCRATCH,
    PLATFORM.TEST_FLUSH,
    PLATFORM.TEST_SCRATCH_BYTES,
    PLATFORM.TEST_LINES,
    PLATFORM.TEST_MEMORY,
    PLATFORM.TEST_SCRATCH_HIGH_BYTES,
  ];
  readonly #lines: readonly Line[];
  #state = powerUp();

  constructor(board: Board) {
    this.#lines = Array.from({ length: GSI_COUNT }, (_, gsi) => board.line(gsi));
  }

  read(rangeIndex: number, offset: number, size: number): number {
    const bytes = this.#storage(rangeIndex);
    if (bytes === undefined) return size === 1 ? 0xff : size === 2 ? 0xffff : 0xffffffff;
    const at = rangeIndex === RANGE.SCRATCH_HIGH_BYTES ? offset + HIGH_OFFSET : offset;
    let value = 0;
    for (let i = 0; i < size; i++) value |= (bytes[at + i] ?? 0) << (8 * i);
    return value >>> 0;
  }

  write(rangeIndex: number, offset: number, size: number, value: number): void {
    const bytes = this.#storage(rangeIndex);
    const at = rangeIndex === RANGE.SCRATCH_HIGH_BYTES ? offset + HIGH_OFFSET : offset;
    if (rangeIndex === RANGE.LINES) this.#lines[offset]?.(value !== 0);
    else if (bytes !== undefined) for (let i = 0; i < size; i++) bytes[at + i] = value >>> (8 * i);
  }

  reset(): void {
    this.#state = powerUp();
    for (const line of this.#lines) line(false);
  }

  save(): Saved<State> {
    const { scratch, memory } = this.#state;
    return { scratch: savedBytes(scratch), memory: savedBytes(memory) };
  }

  restore({ scratch, memory }: Saved<State>): void {
    this.#state = {
      scratch: restoredBytes(scratch, PLATFORM.TEST_SCRATCH.length),
      memory: restoredBytes(memory, PLATFORM.TEST_MEMORY.length),
    };
  }

  #storage(rangeIndex: number): Uint8Array | undefined {
    if (rangeIndex === RANGE.MEMORY) return this.#state.memory;
    return rangeIndex === RANGE.FLUSH || rangeIndex === RANGE.LINES ? undefined : this.#state.scratch;
  }
}
