/**
 * COM1: a 16550A (`uart16550.ts`) at I/O ports 0x3f8-0x3ff, IRQ 4.
 *
 * Input waits in a queue of fixed size and moves to the UART's FIFO as the guest makes room, so nothing is lost and
 * nothing grows: `receive` says how many bytes it took, and `onInputRoom` tells when it is worth offering the rest.
 */
import type { AddressRange, Device, Line } from './device.ts';
import { Uart16550 } from './uart16550.ts';

const QUEUE_BYTES = 4096;

export interface SerialOptions {
  /** Takes each byte the guest sends. On the exit path: it should only store it. */
  readonly transmit: (byte: number) => void;
  readonly interrupt: Line;
  /** The input queue was full and has emptied: offer more. */
  readonly onInputRoom?: () => void;
  /** First of eight I/O ports; default COM1's 0x3f8. */
  readonly port?: number;
}

export class Serial implements Device {
  readonly name: string;
  readonly ranges: readonly AddressRange[];
  readonly #uart: Uart16550;
  readonly #onInputRoom: (() => void) | undefined;
  readonly #queue = new Uint8Array(QUEUE_BYTES);
  #head = 0;
  #count = 0;
  #refused: boolean = false;

  constructor(options: SerialOptions) {
    const base = options.port ?? 0x3f8;
    this.name = `serial-${base.toString(16)}`;
    this.ranges = [{ space: 'pio', base, length: 8, maxAccess: 1 }];
    this.#uart = new Uart16550(options.transmit, options.interrupt);
    this.#onInputRoom = options.onInputRoom;
  }

  /** Bytes for the guest to read. @returns how many were taken, from the front; the caller keeps the rest */
  receive(bytes: Uint8Array): number {
    const taken = Math.min(bytes.length, QUEUE_BYTES - this.#count);
    for (let i = 0; i < taken; i++) this.#queue[(this.#head + this.#count++) % QUEUE_BYTES] = bytes[i] ?? 0;
    if (taken < bytes.length) this.#refused = true;
    this.#refill();
    return taken;
  }

  read(_rangeIndex: number, offset: number): number {
    const value = this.#uart.read(offset);
    if (this.#count > 0) this.#refill();
    return value;
  }

  write(_rangeIndex: number, offset: number, _size: number, value: number): void {
    this.#uart.write(offset, value);
    if (this.#count > 0) this.#refill();
  }

  /** Power-up state. Input that the guest has not seen yet stays in the queue: it is the host's, not the UART's. */
  reset(): void {
    this.#uart.reset();
  }

  #refill(): void {
    while (this.#count > 0 && this.#uart.receiveRoom > 0) {
      this.#uart.receive(this.#queue[this.#head] ?? 0);
      this.#head = (this.#head + 1) % QUEUE_BYTES;
      this.#count--;
    }
    if (this.#refused && this.#count === 0) {
      this.#refused = false;
      this.#onInputRoom?.();
    }
  }
}
