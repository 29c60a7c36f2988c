import { expect, test } from 'vitest';
import { Bus } from '../../../src/devices/bus.ts';
import type { AddressRange, Device } from '../../../src/devices/device.ts';

/** Remembers each access as text and answers reads with bytes that tell the offset. */
class Probe implements Device {
  readonly log: string[] = [];
  readonly name: string;
  readonly ranges: readonly AddressRange[];
  constructor(name: string, ...ranges: AddressRange[]) {
    this.name = name;
    this.ranges = ranges;
  }
  read(rangeIndex: number, offset: number, size: number): number {
    this.log.push(`r${rangeIndex}+${offset}/${size}`);
    let value = 0;
    for (let i = 0; i < size; i++) value += (offset + i) * 256 ** i;
    return value;
  }
  write(rangeIndex: number, offset: number, size: number, value: number): void {
    this.log.push(`w${rangeIndex}+${offset}/${size}=${value.toString(16)}`);
  }
  reset(): void {
    this.log.push('reset');
  }
  save(): object {
    return {};
  }
  restore(): void {}
}

const pio = (base: number, length: number, maxAccess?: 1 | 2 | 4): AddressRange =>
  maxAccess === undefined ? { space: 'pio', base, length } : { space: 'pio', base, length, maxAccess };
const mmio = (base: number, length: number): AddressRange => ({ space: 'mmio', base, length });

function busWith(...devices: Device[]): Bus {
  const bus = new Bus();
  for (const device of devices) bus.register(device);
  return bus;
}

test('an access reaches the device with the offset from its range, its size and its value cut to that size', () => {
  const probe = new Probe('probe', pio(0x60, 1), pio(0x64, 8));
  const bus = busWith(probe);
  bus.writePort(0x66, 2, 0x12345);
  expect(bus.readPort(0x64, 4)).toBe(0x03020100);
  expect(bus.readPort(0x60, 1)).toBe(0);
  expect(probe.log).toEqual(['w1+2/2=2345', 'r1+0/4', 'r0+0/1']);
});

test('ports and guest-physical addresses are two spaces', () => {
  const ports = new Probe('ports', pio(0x100, 4));
  const memory = new Probe('memory', mmio(0x100, 4));
  const bus = busWith(ports, memory);
  bus.writePort(0x100, 1, 1);
  bus.writeMmio(0x100, 1, 2);
  expect(ports.log).toEqual(['w0+0/1=1']);
  expect(memory.log).toEqual(['w0+0/1=2']);
});

test('overlapping ranges are refused with both names, and nothing of the second device is registered', () => {
  const bus = busWith(new Probe('first', pio(0x3f8, 8)));
  const second = new Probe('second', pio(0x80, 1), pio(0x3ff, 1));
  expect(() => bus.register(second)).toThrow(/second \(pio 0x3ff-0x3ff\) overlaps first \(pio 0x3f8-0x3ff\)/);
  bus.writePort(0x80, 1, 0);
  expect(second.log).toEqual([]);
  expect(bus.devices).toHaveLength(1);
});

test('two devices of one name are refused: their states would be one', () => {
  expect(() => busWith(new Probe('twin', pio(0x10, 1)), new Probe('twin', pio(0x20, 1)))).toThrow(/named twin already/);
});

test('two ranges of one device must not overlap either', () => {
  expect(() => busWith(new Probe('twice', pio(0x10, 2), pio(0x11, 1)))).toThrow(/twice .* overlaps twice/);
});

test('ranges that only touch are fine', () => {
  const low = new Probe('low', pio(0x40, 4));
  const high = new Probe('high', pio(0x44, 4));
  const bus = busWith(low, high);
  bus.writePort(0x43, 1, 1);
  bus.writePort(0x44, 1, 2);
  expect([low.log, high.log]).toEqual([['w0+3/1=1'], ['w0+0/1=2']]);
});

test.each([pio(0xffff, 2), pio(0, 0), pio(-1, 2), mmio(Number.MAX_SAFE_INTEGER, 2), mmio(0.5, 1)])(
  'a range outside its space is refused: %j',
  (range) => {
    expect(() => busWith(new Probe('bad', range))).toThrow(RangeError);
  },
);

test('an unclaimed read is all ones, an unclaimed write is ignored, and both are counted in bytes', () => {
  const bus = new Bus();
  expect(bus.readPort(0x1234, 1)).toBe(0xff);
  expect(bus.readPort(0x1234, 2)).toBe(0xffff);
  expect(bus.readMmio(0xd0000000, 4)).toBe(0xffffffff);
  bus.writePort(0x1234, 4, 0);
  bus.writeMmio(0xd0000000, 1, 0);
  expect([bus.unclaimedReads, bus.unclaimedWrites]).toEqual([7, 5]);
});

test('an access over the end of a range is taken apart into bytes, each going its own way', () => {
  const low = new Probe('low', pio(0x100, 2));
  const high = new Probe('high', pio(0x103, 8));
  const bus = busWith(low, high);
  expect(bus.readPort(0x101, 4)).toBe(0x0100ff01);
  bus.writePort(0x101, 4, 0x44332211);
  expect(low.log).toEqual(['r0+1/1', 'w0+1/1=11']);
  expect(high.log).toEqual(['r0+0/1', 'r0+1/1', 'w0+0/1=33', 'w0+1/1=44']);
});

test('a port access past 0xffff wraps to port 0', () => {
  const probe = new Probe('zero', pio(0, 1));
  const bus = busWith(probe);
  expect(bus.readPort(0xffff, 2)).toBe(0x00ff);
  expect(probe.log).toEqual(['r0+0/1']);
});

test('a range that decodes bytes only gets a wide access as consecutive bytes, low address first', () => {
  const probe = new Probe('cmos', pio(0x70, 2, 1));
  const bus = busWith(probe);
  bus.writePort(0x70, 2, 0xab0f);
  expect(bus.readPort(0x70, 2)).toBe(0x0100);
  expect(probe.log).toEqual(['w0+0/1=f', 'w0+1/1=ab', 'r0+0/1', 'r0+1/1']);
});

test('a range that decodes words gets a dword access as two words', () => {
  const probe = new Probe('words', pio(0x600, 4, 2));
  const bus = busWith(probe);
  bus.writePort(0x600, 4, 0xffff0001);
  expect(bus.readPort(0x600, 4)).toBe(0x03020100);
  expect(probe.log).toEqual(['w0+0/2=1', 'w0+2/2=ffff', 'r0+0/2', 'r0+2/2']);
});

test('MMIO look-up finds the right range after another one was hit', () => {
  const low = new Probe('low', mmio(0xfec00000, 0x100));
  const high = new Probe('high', mmio(0xff000000, 0x10000));
  const bus = busWith(low, high);
  bus.readMmio(0xff00fffc, 4);
  bus.readMmio(0xfec00000, 4);
  bus.readMmio(0xff000000, 4);
  expect(bus.readMmio(0xfec00100, 1)).toBe(0xff);
  expect(low.log).toEqual(['r0+0/4']);
  expect(high.log).toEqual(['r0+65532/4', 'r0+0/4']);
});

test('the bus knows the earliest deadline and advances only the devices that reached theirs', () => {
  const advanced: string[] = [];
  const timed = (name: string, base: number, deadline: number): Device => ({
    name,
    ranges: [pio(base, 1)],
    read: () => 0,
    write: () => {},
    reset: () => {},
    save: () => ({}),
    restore: () => {},
    deadlineNanos: () => deadline,
    advance: (now) => advanced.push(`${name}@${now}`),
  });
  const bus = busWith(timed('a', 1, 200), timed('b', 2, 100), timed('c', 3, Number.POSITIVE_INFINITY));
  expect(bus.nextDeadlineNanos()).toBe(100);
  bus.advance(99);
  expect(advanced).toEqual([]);
  bus.advance(100);
  expect(advanced).toEqual(['b@100']);
  expect(new Bus().nextDeadlineNanos()).toBe(Number.POSITIVE_INFINITY);
});

test('reset reaches every device once', () => {
  const probe = new Probe('probe', pio(1, 1), pio(3, 1));
  busWith(probe).reset();
  expect(probe.log).toEqual(['reset']);
});
