/**
 * QEMU's pc-testdev (hw/misc/pc-testdev.c), which kvm-unit-tests drive:
 *
 *     0x00e0-0x00e3  one 32-bit scratch register, any access size      0x00e8-0x00eb  the same register, byte by byte
 *     0x00e4-0x00e7  flush a page (a hint to the monitor's MMU; nothing to do here), reads all ones
 *     0x2000-0x2017  interrupt line n: writing a byte other than 0 raises it, 0 lowers it; reads all ones
 *     0xff000000     64 KiB of MMIO that behaves as memory
 */
import type { AddressRange, Device } from './device.ts';

const RANGE = { SCRATCH: 0, FLUSH: 1, SCRATCH_BYTES: 2, LINES: 3, MEMORY: 4 } as const;
const LINES = 24;
const MEMORY_BYTES = 0x10000;

export class TestDevice implements Device {
  readonly name = 'pc-testdev';
  readonly ranges: readonly AddressRange[] = [
    { space: 'pio', base: 0xe0, length: 4 },
    { space: 'pio', base: 0xe4, length: 4 },
    { space: 'pio', base: 0xe8, length: 4, maxAccess: 1 },
    { space: 'pio', base: 0x2000, length: LINES, maxAccess: 1 },
    { space: 'mmio', base: 0xff000000, length: MEMORY_BYTES },
  ];
  readonly #setLine: (line: number, level: boolean) => void;
  readonly #scratch = new Uint8Array(4);
  readonly #memory = new Uint8Array(MEMORY_BYTES);

  /** @param setLine drives interrupt line 0-23 (a PC's global system interrupt) */
  constructor(setLine: (line: number, level: boolean) => void) {
    this.#setLine = setLine;
  }

  read(rangeIndex: number, offset: number, size: number): number {
    const bytes = this.#storage(rangeIndex);
    if (bytes === undefined) return size === 1 ? 0xff : size === 2 ? 0xffff : 0xffffffff;
    let value = 0;
    for (let i = 0; i < size; i++) value |= (bytes[offset + i] ?? 0) << (8 * i);
    return value >>> 0;
  }

  write(rangeIndex: number, offset: number, size: number, value: number): void {
    const bytes = this.#storage(rangeIndex);
    if (rangeIndex === RANGE.LINES) this.#setLine(offset, value !== 0);
    else if (bytes !== undefined) for (let i = 0; i < size; i++) bytes[offset + i] = value >>> (8 * i);
  }

  reset(): void {
    this.#scratch.fill(0);
    this.#memory.fill(0);
    for (let line = 0; line < LINES; line++) this.#setLine(line, false);
  }

  #storage(rangeIndex: number): Uint8Array | undefined {
    if (rangeIndex === RANGE.MEMORY) return this.#memory;
    return rangeIndex === RANGE.SCRATCH || rangeIndex === RANGE.SCRATCH_BYTES ? this.#scratch : undefined;
  }
}
