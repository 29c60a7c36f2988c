/**
 * The bus: which device answers which I/O port or guest-physical address, and which device wants the clock next.
 *
 * Rules: two ranges of one space never overlap (an error when the second is registered, naming both devices). An access
 * inside one range goes to its device, cut to the width the range decodes; one that touches several ranges, or a range and
 * a hole, is taken apart into single bytes, each going its own way. A byte nobody claims reads as 0xff, is written to
 * nowhere, and is counted. I/O ports wrap at 64 Ki as the CPU's address lines do.
 *
 * Runs on worker 0, on the exit path: no allocation in any read or write. A port is one table look-up (128 KiB), an MMIO
 * address a scan of the few MMIO ranges that starts with the last one hit.
 */
import { hex } from '../hex.ts';
import type { AddressRange, Device } from './device.ts';

const PORTS = 0x10000;

/** One registered range; `end` is exclusive. */
interface Slot {
  readonly device: Device;
  readonly rangeIndex: number;
  readonly base: number;
  readonly end: number;
  readonly width: number;
}

/** All ones in the low `size` bytes (1, 2 or 4). */
function allOnes(size: number): number {
  return size === 4 ? 0xffffffff : (1 << (size * 8)) - 1;
}

function describe(device: Device, range: AddressRange): string {
  const last = range.base + range.length - 1;
  return `${device.name} (${range.space} ${hex(range.base)}-${hex(last)})`;
}

export class Bus {
  /** Bytes read from and written to addresses that no device claims, since the bus was made. */
  unclaimedReads = 0;
  unclaimedWrites = 0;
  readonly #devices: Device[] = [];
  readonly #timed: Device[] = [];
  readonly #ports: (Slot | undefined)[] = [undefined];
  readonly #portSlot = new Uint16Array(PORTS);
  readonly #mmio: Slot[] = [];
  #lastMmio: Slot | undefined;

  get devices(): readonly Device[] {
    return this.#devices;
  }

  /**
   * Puts a device on the bus.
   * @throws RangeError if a range is empty, outside its space, or overlaps one that is registered; nothing is added then
   */
  register(device: Device): void {
    const { name } = device;
    if (this.#devices.some((each) => each.name === name))
      throw new RangeError(`there is a device named ${name} already`);
    for (const range of device.ranges) this.#check(device, range);
    device.ranges.forEach((range, rangeIndex) => {
      const { space, base, length, maxAccess } = range;
      const slot: Slot = { device, rangeIndex, base, end: base + length, width: maxAccess ?? 4 };
      if (space === 'pio') {
        this.#portSlot.fill(this.#ports.push(slot) - 1, base, base + length);
      } else {
        this.#mmio.push(slot);
      }
    });
    this.#devices.push(device);
    if (device.deadlineNanos !== undefined) this.#timed.push(device);
  }

  /** @param size 1, 2 or 4 bytes */
  readPort(port: number, size: number): number {
    const first = port & 0xffff;
    const slot = this.#ports[this.#portSlot[first] ?? 0];
    if (slot !== undefined && first + size <= slot.end) return this.#readSlot(slot, first, size);
    if (slot === undefined && size === 1) return this.#unclaimedRead();
    return this.#readBytes('pio', first, size);
  }

  /** @param size 1, 2 or 4 bytes; `value`'s higher bytes are ignored */
  writePort(port: number, size: number, value: number): void {
    const first = port & 0xffff;
    const slot = this.#ports[this.#portSlot[first] ?? 0];
    if (slot !== undefined && first + size <= slot.end) this.#writeSlot(slot, first, size, value);
    else if (slot === undefined && size === 1) this.unclaimedWrites++;
    else this.#writeBytes('pio', first, size, value);
  }

  /** @param size 1, 2 or 4 bytes */
  readMmio(gpa: number, size: number): number {
    const slot = this.#findMmio(gpa);
    if (slot !== undefined && gpa + size <= slot.end) return this.#readSlot(slot, gpa, size);
    if (slot === undefined && size === 1) return this.#unclaimedRead();
    return this.#readBytes('mmio', gpa, size);
  }

  /** @param size 1, 2 or 4 bytes; `value`'s higher bytes are ignored */
  writeMmio(gpa: number, size: number, value: number): void {
    const slot = this.#findMmio(gpa);
    if (slot !== undefined && gpa + size <= slot.end) this.#writeSlot(slot, gpa, size, value);
    else if (slot === undefined && size === 1) this.unclaimedWrites++;
    else this.#writeBytes('mmio', gpa, size, value);
  }

  /** Puts every device back to its power-up state, in the order of registration. */
  reset(): void {
    for (const device of this.#devices) device.reset();
  }

  /** The earliest deadline of all devices, in nanoseconds of the machine's clock; Infinity when there is none. */
  nextDeadlineNanos(): number {
    let next = Number.POSITIVE_INFINITY;
    for (const device of this.#timed) {
      const deadline = device.deadlineNanos?.() ?? next;
      if (deadline < next) next = deadline;
    }
    return next;
  }

  /** Advances the devices whose deadline is at or before `nowNanos`. */
  advance(nowNanos: number): void {
    for (const device of this.#timed) {
      const deadline = device.deadlineNanos?.();
      if (deadline !== undefined && deadline <= nowNanos) device.advance?.(nowNanos);
    }
  }

  #check(device: Device, range: AddressRange): void {
    const { space, base, length } = range;
    const limit = space === 'pio' ? PORTS : Number.MAX_SAFE_INTEGER;
    if (
      !Number.isSafeInteger(base) ||
      !Number.isSafeInteger(length) ||
      base < 0 ||
      length < 1 ||
      base + length > limit
    ) {
      throw new RangeError(`${describe(device, range)} is not a range of the ${space} space`);
    }
    for (const other of [...this.#devices, device]) {
      for (const taken of other.ranges) {
        if (taken === range || taken.space !== space) continue;
        if (base < taken.base + taken.length && taken.base < base + length) {
          throw new RangeError(`${describe(device, range)} overlaps ${describe(other, taken)}`);
        }
      }
    }
  }

  #findMmio(gpa: number): Slot | undefined {
    const last = this.#lastMmio;
    if (last !== undefined && gpa >= last.base && gpa < last.end) return last;
    for (const slot of this.#mmio) {
      if (gpa >= slot.base && gpa < slot.end) {
        this.#lastMmio = slot;
        return slot;
      }
    }
    return undefined;
  }

  #readSlot(slot: Slot, address: number, size: number): number {
    const offset = address - slot.base;
    const { device, rangeIndex, width } = slot;
    if (size <= width) return device.read(rangeIndex, offset, size);
    let value = 0;
    for (let i = 0; i < size; i += width) value |= device.read(rangeIndex, offset + i, width) << (8 * i);
    return value >>> 0;
  }

  #writeSlot(slot: Slot, address: number, size: number, value: number): void {
    const offset = address - slot.base;
    const { device, rangeIndex, width } = slot;
    if (size <= width) {
      device.write(rangeIndex, offset, size, (value & allOnes(size)) >>> 0);
      return;
    }
    const mask = allOnes(width);
    for (let i = 0; i < size; i += width) device.write(rangeIndex, offset + i, width, (value >>> (8 * i)) & mask);
  }

  #unclaimedRead(): number {
    this.unclaimedReads++;
    return 0xff;
  }

  #readBytes(space: 'pio' | 'mmio', address: number, size: number): number {
    let value = 0;
    for (let i = 0; i < size; i++) {
      const byte = space === 'pio' ? this.readPort(address + i, 1) : this.readMmio(address + i, 1);
      value |= byte << (8 * i);
    }
    return value >>> 0;
  }

  #writeBytes(space: 'pio' | 'mmio', address: number, size: number, value: number): void {
    for (let i = 0; i < size; i++) {
      if (space === 'pio') this.writePort(address + i, 1, value >>> (8 * i));
      else this.writeMmio(address + i, 1, value >>> (8 * i));
    }
  }
}
