/**
 * What a device is to the rest of the machine: a named range of ports or guest-physical addresses that answers reads and
 * writes of 1, 2 or 4 bytes, can be reset, and may have a deadline of its own.
 *
 * A device is ordinary single-threaded code: every call comes from worker 0. It never throws, never blocks and never grows
 * without bound, whatever a guest does: an access that means nothing reads as all ones and writes as nothing.
 * Time is handed in (nanoseconds of the machine's monotonic clock); a device owns no timer and reads no clock.
 */

/** Where a device answers: `base` and `length` are in bytes (I/O ports 0-0xffff, or a guest-physical address). */
export interface AddressRange {
  readonly space: 'pio' | 'mmio';
  readonly base: number;
  readonly length: number;
  /**
   * The widest access the device decodes, in bytes (default 4). The bus cuts wider ones into consecutive accesses of this
   * size, low address first, as a PC does for an 8-bit ISA device: `outw` to port 0x70 writes 0x70 and then 0x71.
   */
  readonly maxAccess?: 1 | 2 | 4;
}

export interface Device {
  readonly name: string;
  readonly ranges: readonly AddressRange[];

  /**
   * @param rangeIndex which of `ranges`
   * @param offset bytes from the range's base
   * @param size 1, 2 or 4 bytes; `offset + size` never passes the range's end
   * @returns the value read, unsigned, in the low `size` bytes
   */
  read(rangeIndex: number, offset: number, size: number): number;

  /** As `read`; `value` is unsigned and already cut to `size` bytes. */
  write(rangeIndex: number, offset: number, size: number, value: number): void;

  /** Back to the power-up state, line outputs included. */
  reset(): void;

  /** When `advance` wants to be called next, in nanoseconds of the machine's clock; Infinity when there is nothing to do. */
  deadlineNanos?(): number;

  /** The machine's clock reached `nowNanos` (at or after the deadline). */
  advance?(nowNanos: number): void;
}

/** An interrupt line or any other one-bit output of a device. */
export type Line = (level: boolean) => void;

/** The machine's monotonic clock, handed in by whoever makes the device: nanoseconds, never going back. */
export type Clock = () => number;
