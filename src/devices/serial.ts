/**
 * COM1: a 16550A (`uart16550.ts`) at I/O ports 0x3f8-0x3ff, IRQ 4. Each byte that the guest sends is reported.
 *
 * Input waits in a queue of fixed size and moves to the UART's FIFO as the guest makes room, so nothing is lost and
 * nothing grows: `receive` says how many bytes it took, and `input-room` reports when it is worth offering the rest.
 */
import { GSI, PLATFORM } from '../platform.ts';
import type { Board, Device } from './device.ts';
import { restoredBytes, type Saved, savedBytes } from './state.ts';
import { Uart16550, type UartState } from './uart16550.ts';

const QUEUE_BYTES = 4096;
const INPUT_ROOM = { type: 'input-room' } as const;

interface State {
  readonly queue: Uint8Array;
  head: number;
  count: number;
  refused: boolean;
}

interface SavedSerial extends Saved<State> {
  readonly uart: Saved<UartState>;
}

export class Serial implements Device {
  readonly name = 'serial';
  readonly ranges = [PLATFORM.COM1];
  readonly #board: Board;
  readonly #uart: Uart16550;
  #state: State = { queue: new Uint8Array(QUEUE_BYTES), head: 0, count: 0, refused: false };

  constructor(board: Board) {
    this.#board = board;
    const transmitted = { type: 'transmit', byte: 0 } as { readonly type: 'transmit'; byte: number };
    this.#uart = new Uart16550((byte) => {
      transmitted.byte = byte;
      board.report(transmitted);
    }, board.line(GSI.COM1));
  }

  /** Bytes for the guest to read. @returns how many were taken, from the front; the caller keeps the rest */
  receive(bytes: Uint8Array): number {
    const taken = Math.min(bytes.length, QUEUE_BYTES - this.#state.count);
    for (let i = 0; i < taken; i++)
      this.#state.queue[(this.#state.head + this.#state.count++) % QUEUE_BYTES] = bytes[i] ?? 0;
    if (taken < bytes.length) this.#state.refused = true;
    this.#refill();
    return taken;
  }

  read(_rangeIndex: number, offset: number): number {
    const value = this.#uart.read(offset);
    if (this.#state.count > 0) this.#refill();
    return value;
  }

  write(_rangeIndex: number, offset: number, _size: number, value: number): void {
    this.#uart.write(offset, value);
    if (this.#state.count > 0) this.#refill();
  }

  /** Power-up state. Input that the guest has not seen yet stays in the queue: it is the host's, not the UART's. */
  reset(): void {
    this.#uart.reset();
  }

  save(): SavedSerial {
    const { queue, ...counters } = this.#state;
    return { ...counters, queue: savedBytes(queue), uart: this.#uart.save() };
  }

  restore({ queue, uart, ...counters }: SavedSerial): void {
    this.#state = { ...counters, queue: restoredBytes(queue, QUEUE_BYTES) };
    this.#uart.restore(uart);
  }

  #refill(): void {
    while (this.#state.count > 0 && this.#uart.receiveRoom > 0) {
      this.#uart.receive(this.#state.queue[this.#state.head] ?? 0);
      this.#state.head = (this.#state.head + 1) % QUEUE_BYTES;
      this.#state.count--;
    }
    if (this.#state.refused && this.#state.count === 0) {
      this.#state.refused = false;
      this.#board.report(INPUT_ROOM);
    }
  }
}
