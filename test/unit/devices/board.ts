/** A board whose clock the test sets and that remembers what a device did to it. */
import type { Board, DeviceEvent, Line } from '../../../src/devices/device.ts';

type EventOf<T extends DeviceEvent['type']> = Extract<DeviceEvent, { readonly type: T }>;

export interface Message {
  readonly destination: number;
  readonly command: number;
}

export class TestBoard implements Board {
  nanos = 0;
  memory = new Uint8Array(0);
  /** What `msi` answers. */
  takers = 1;
  /** What was driven, in order. */
  readonly driven: [gsi: number, level: boolean][] = [];
  readonly messages: Message[] = [];
  readonly #events: DeviceEvent[] = [];

  line(gsi: number): Line {
    return (level) => this.driven.push([gsi, level]);
  }

  msi(destination: number, command: number): number {
    this.messages.push({ destination, command });
    return this.takers;
  }

  ram(gpa: number, length: number): Uint8Array | undefined {
    return gpa + length <= this.memory.length ? this.memory.subarray(gpa, gpa + length) : undefined;
  }

  now(): number {
    return this.nanos;
  }

  report(event: DeviceEvent): void {
    this.#events.push({ ...event });
  }

  /** The levels that were driven on one interrupt. */
  levels(gsi: number): boolean[] {
    return this.driven.filter(([driven]) => driven === gsi).map(([, level]) => level);
  }

  events<T extends DeviceEvent['type']>(type: T): EventOf<T>[] {
    return this.#events.filter((event): event is EventOf<T> => event.type === type);
  }
}
