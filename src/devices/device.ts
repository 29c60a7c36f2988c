/**
 * What a device is to the rest of the machine: a named set of port or guest-physical ranges that answers reads and writes of
 * 1, 2 or 4 bytes, can be reset, saved and restored, and may have a deadline of its own; and the board that it is put on,
 * which is all that it knows of the rest.
 *
 * A device is ordinary single-threaded code: every call comes from worker 0. It never throws, never blocks and never grows
 * without bound, whatever a guest does: an access that means nothing reads as all ones and writes as nothing.
 * Time is handed in (nanoseconds of the machine's monotonic clock); a device owns no timer and reads no clock.
 */
import type { AddressRange } from '../platform.ts';

export type { AddressRange } from '../platform.ts';

/**
 * What a device is to the rest of the machine: port or guest-physical ranges that answer reads and writes of 1, 2 or
 * 4 bytes. Single-threaded: worker 0 makes every call. It never throws, blocks or grows without bound, whatever a
 * guest does; what means nothing reads as all ones and writes as nothing. Time is handed in: it owns no timer.
 */
export interface Device {
  /** Its own among the devices of a machine: a saved state is kept under it. */
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

  /** Everything that a later access can tell, as a plain object that JSON can carry. Times are relative to now. */
  save(): object;

  /**
   * Takes over what `save` of such a device answered, at whatever time of whichever machine. Drives no line: what is at the
   * other end of its lines is restored as well.
   */
  restore(state: object): void;

  /** When `advance` wants to be called next, in nanoseconds of the machine's clock; Infinity when there is nothing to do. */
  deadlineNanos?(): number;

  /** The machine's clock reached `nowNanos` (at or after the deadline). */
  advance?(nowNanos: number): void;
}

/** An interrupt line or any other one-bit output of a device. */
export type Line = (level: boolean) => void;

/** What a device is put on: everything that it can do to the rest of the machine. */
export interface Board {
  /** One more source of a global system interrupt (0-23), low at first. Sources of one interrupt are ORed. */
  line(gsi: number): Line;
  /**
   * Sends an interrupt message to the local APICs.
   * @param command as in the ICR's low word: vector 7:0, delivery mode 10:8, logical 11, assert 14, level-triggered 15
   * @returns how many took it (0: coalesced), or -1 if nobody matched
   */
  msi(destination: number, command: number): number;
  /** A view of guest memory from `gpa` on, exactly `length` bytes; undefined unless all of it is RAM. Never throws. */
  ram(gpa: number, length: number): Uint8Array | undefined;
  /** The machine's monotonic clock in nanoseconds, never going back. */
  now(): number;
  /** Tells the rest of the machine. The event may be reused: it holds only during the call. */
  report(event: DeviceEvent): void;
}

/** A module that a machine loads for its `devices` option, on the thread that owns the devices. */
export interface DeviceModule {
  /** Makes its devices, once for each machine, before any vCPU runs. */
  devices(board: Board): Iterable<Device>;
}

/** INIT to the CPUs, devices and memory untouched; or a reset of everything but memory. */
export type ResetKind = 'init' | 'hard';

/** What devices say. */
export type DeviceEvent =
  /** The PICs' INTR output changed. */
  | { readonly type: 'pic-interrupt'; readonly level: boolean }
  /** The guest rewrote I/O APIC entries: routes derived from them (EOI exits of a split irqchip) are stale. */
  | { readonly type: 'redirection' }
  /** The guest sent a byte through its serial port. */
  | { readonly type: 'transmit'; readonly byte: number }
  /** The guest wrote a byte to a debug console. */
  | { readonly type: 'debug-output'; readonly byte: number }
  /** The serial port refused input and has room now: offer more. */
  | { readonly type: 'input-room' }
  /** The guest pulled a reset line, or entered S5. */
  | { readonly type: 'reset'; readonly kind: ResetKind }
  | { readonly type: 'power-off' }
  /** The firmware wants the image started again; devices stay as they are. */
  | { readonly type: 'restart' }
  /** The guest ended the run; the whole unsigned 32-bit status, of which a Unix exit status is the low 8 bits. */
  | { readonly type: 'debug-exit'; readonly status: number }
  /** The guest ejected a CPU whose removal was asked for; the slot is empty already. */
  | { readonly type: 'ejected'; readonly slot: number }
  /** The guest's _OST report on a slot: the event it speaks of and the status it gives, both 32 bits. */
  | { readonly type: 'ost'; readonly slot: number; readonly event: number; readonly status: number }
  /** The guest called a BIOS: interrupt vector and AX. */
  | { readonly type: 'bios-call'; readonly vector: number; readonly ax: number };
