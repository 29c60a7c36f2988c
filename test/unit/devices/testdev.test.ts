import { expect, test } from 'vitest';
import { TestDevice } from '../../../src/devices/testdev.ts';
import { TickRate } from '../../../src/devices/ticks.ts';
import { Wire } from '../../../src/devices/wire.ts';
import { TestBoard } from './board.ts';

// Ranges: 0 scratch (0xe0), 1 flush (0xe4), 2 scratch by bytes (0xe8), 3 lines (0x2000), 4 memory (0xff000000),
// 5 scratch by bytes (0xea).
function make(): { device: TestDevice; lines: [number, boolean][] } {
  const board = new TestBoard();
  return { device: new TestDevice(board), lines: board.driven };
}

test('the scratch register keeps what was written at any size and offset', () => {
  const { device } = make();
  device.write(0, 0, 4, 0xdeadbeef);
  expect([device.read(0, 0, 4), device.read(0, 0, 2), device.read(0, 3, 1)]).toEqual([0xdeadbeef, 0xbeef, 0xde]);
  device.write(0, 1, 2, 0x1234);
  expect(device.read(0, 0, 4)).toBe(0xde1234ef);
});

test('0xe8, 0xea and 0xeb are the same register, byte by byte', () => {
  const { device } = make();
  device.write(2, 0, 1, 0x11);
  device.write(5, 0, 1, 0x55);
  device.write(5, 1, 1, 0x66);
  expect(device.read(0, 0, 4)).toBe(0x66550011);
  expect([device.read(2, 0, 1), device.read(5, 0, 1), device.read(5, 1, 1)]).toEqual([0x11, 0x55, 0x66]);
});

test('the flush port takes writes and reads all ones', () => {
  const { device } = make();
  device.write(1, 0, 4, 0x1000);
  expect(device.read(1, 0, 4)).toBe(0xffffffff);
});

test('line n rises with a byte other than 0 and falls with 0', () => {
  const { device, lines } = make();
  device.write(3, 14, 1, 1);
  device.write(3, 23, 1, 0x80);
  device.write(3, 14, 1, 0);
  expect(lines).toEqual([
    [14, true],
    [23, true],
    [14, false],
  ]);
  expect(device.read(3, 14, 1)).toBe(0xff);
});

test('64 KiB of MMIO behave as memory, up to the last byte', () => {
  const { device } = make();
  device.write(4, 0xfffc, 4, 0x89abcdef);
  expect([device.read(4, 0xfffc, 4), device.read(4, 0xfffe, 2), device.read(4, 0, 4)]).toEqual([0x89abcdef, 0x89ab, 0]);
});

test('reset clears the memory and lowers all lines', () => {
  const { device, lines } = make();
  device.write(4, 0, 1, 1);
  device.write(3, 5, 1, 1);
  device.reset();
  expect(device.read(4, 0, 1)).toBe(0);
  expect(lines.slice(1)).toEqual(Array.from({ length: 24 }, (_, line) => [line, false]));
});

test('a wire ORs its sources and drives every sink on each change', () => {
  const seen: string[] = [];
  const wire = new Wire(
    (level) => seen.push(`pic ${level}`),
    (level) => seen.push(`ioapic ${level}`),
  );
  const first = wire.connect();
  const second = wire.connect();
  first(true);
  second(true);
  first(false);
  expect([wire.level, seen]).toEqual([true, ['pic true', 'ioapic true']]);
  second(false);
  expect(seen.slice(2)).toEqual(['pic false', 'ioapic false']);
});

test('a restored wire drives nothing, and goes on from the level that it was saved with', () => {
  const wire = new Wire();
  wire.connect()(false);
  wire.connect()(true);
  const seen: boolean[] = [];
  const other = new Wire((level) => seen.push(level));
  const [first, second] = [other.connect(), other.connect()];
  other.restore(wire.save());
  expect([other.level, seen]).toEqual([true, []]);
  first(true);
  second(false);
  first(false);
  expect(seen).toEqual([false]);
});

test.each([1_193_182, 3_579_545, 32_768])('at %i Hz a tick happens at nanosAt and not a nanosecond before', (hz) => {
  const rate = new TickRate(hz);
  for (const tick of [1, 2, 3, 999, hz - 1, hz, hz + 1, 12_345_678, hz * 86_400 * 30 + 7]) {
    expect(rate.ticksAt(rate.nanosAt(tick))).toBe(tick);
    expect(rate.ticksAt(rate.nanosAt(tick) - 1)).toBe(tick - 1);
  }
});
