import { beforeEach, expect, test } from 'vitest';
import { PowerManagement } from '../../../src/devices/pm.ts';
import { TestBoard } from './board.ts';

const HZ = 3_579_545;
const nanos = (ticks: number): number => Math.ceil((ticks * 1e9) / HZ);
// Ranges: 0 PM1 event (0x600), 1 PM1 control (0x604), 2 timer, 3 GPE0. Status and enable bits by ACPI 6.5, 4.8.3.
const [TIMER, GPE] = [2, 3];
const [STATUS, ENABLE, CONTROL] = [0, 2, 4];

let board: TestBoard;
let pm: PowerManagement;

beforeEach(() => {
  board = new TestBoard();
  pm = new PowerManagement(board);
});

const sci = (): boolean[] => board.levels(9);
const offs = (): number => board.events('power-off').length;
/** Bytes of the PM1 blocks, which lie one after the other. */
const where = (offset: number): [number, number] => (offset < CONTROL ? [0, offset] : [1, offset - CONTROL]);
/** 16-bit accesses as the bus makes them of these ranges: two bytes, low first. */
const read16 = (offset: number): number => pm.read(...where(offset), 1) | (pm.read(...where(offset + 1), 1) << 8);
const write16 = (offset: number, value: number): void => {
  pm.write(...where(offset), 1, value & 0xff);
  pm.write(...where(offset + 1), 1, value >> 8);
};
const timer = (): number => pm.read(TIMER, 0, 4);

test('the blocks are where the q35 machine has them', () => {
  expect(pm.ranges.map(({ base, length }) => [base, length])).toEqual([
    [0x600, 4],
    [0x604, 2],
    [0x608, 4],
    [0x620, 16],
  ]);
});

test('the timer counts 3,579,545 times a second, in 24 bits, and ignores writes', () => {
  board.nanos = nanos(1000) - 1;
  expect(timer()).toBe(999);
  board.nanos = nanos(1000);
  expect(timer()).toBe(1000);
  board.nanos = 5e9;
  pm.write(TIMER, 0, 4, 0);
  expect(timer()).toBe((5 * HZ) % 2 ** 24);
});

test('a byte or word of the timer is that part of its count', () => {
  board.nanos = nanos(0x123456);
  expect([pm.read(TIMER, 0, 1), pm.read(TIMER, 1, 1), pm.read(TIMER, 2, 2)]).toEqual([0x56, 0x34, 0x12]);
});

test('the timer status bit is set when bit 23 changes, and again 2^23 ticks later', () => {
  board.nanos = nanos(2 ** 23) - 1;
  expect(read16(STATUS)).toBe(0);
  board.nanos = nanos(2 ** 23);
  expect(read16(STATUS)).toBe(0x0001);
  write16(STATUS, 0x0001);
  expect(read16(STATUS)).toBe(0);
  board.nanos = nanos(2 ** 24) - 1;
  expect(read16(STATUS)).toBe(0);
  board.nanos = nanos(2 ** 24);
  expect(read16(STATUS)).toBe(0x0001);
});

test('the timer interrupt: SCI at the overflow, down when the status is cleared', () => {
  write16(ENABLE, 0x0001);
  expect(pm.deadlineNanos()).toBe(nanos(2 ** 23));
  pm.advance(nanos(2 ** 23) - 1);
  expect(sci()).toEqual([]);
  board.nanos = nanos(2 ** 23);
  pm.advance(board.nanos);
  expect(sci()).toEqual([true]);
  expect(pm.deadlineNanos()).toBe(Number.POSITIVE_INFINITY);
  write16(STATUS, 0x0001);
  expect(sci()).toEqual([true, false]);
  expect(pm.deadlineNanos()).toBe(nanos(2 ** 24));
});

test('the power button sets its status and raises the SCI while it is enabled', () => {
  pm.pressPowerButton();
  expect(read16(STATUS)).toBe(0x0100);
  expect(sci()).toEqual([]);
  write16(ENABLE, 0x0100);
  expect(sci()).toEqual([true]);
  write16(STATUS, 0x0100);
  expect(sci()).toEqual([true, false]);
});

test('writing a 0 to a status bit leaves it', () => {
  pm.pressPowerButton();
  write16(STATUS, 0xfeff);
  expect(read16(STATUS)).toBe(0x0100);
});

test('only the timer, global lock, power button and RTC events can be enabled', () => {
  write16(ENABLE, 0xffff);
  expect(read16(ENABLE)).toBe(0x0521);
});

test('control: SCI_EN reads 1, the sleep type is kept, sleep enable reads 0', () => {
  expect(read16(CONTROL)).toBe(0x0001);
  write16(CONTROL, 0x3400);
  expect(read16(CONTROL)).toBe(0x1401);
  expect(offs()).toBe(0);
});

test('S5 (sleep type 0 with sleep enable) powers off', () => {
  write16(CONTROL, 0x0001);
  expect(offs()).toBe(0);
  write16(CONTROL, 0x2001);
  expect(offs()).toBe(1);
});

test('a general-purpose event raises the SCI while enabled, and comes back while its line is high', () => {
  const hotplug = pm.gpe(2);
  pm.write(GPE, 8, 1, 0x04);
  hotplug(true);
  expect(sci()).toEqual([true]);
  pm.write(GPE, 0, 1, 0x04);
  expect(pm.read(GPE, 0, 1)).toBe(0x04);
  expect(sci()).toEqual([true]);
  hotplug(false);
  expect(pm.read(GPE, 0, 1)).toBe(0x04);
  pm.write(GPE, 0, 1, 0x04);
  expect(pm.read(GPE, 0, 1)).toBe(0);
  expect(sci()).toEqual([true, false]);
});

test('the highest general-purpose event is bit 63', () => {
  pm.write(GPE, 15, 1, 0x80);
  pm.gpe(63)(true);
  expect(pm.read(GPE, 7, 1)).toBe(0x80);
  expect(sci()).toEqual([true]);
});

test('reset clears everything but the level of an event line', () => {
  const hotplug = pm.gpe(2);
  hotplug(true);
  pm.pressPowerButton();
  write16(ENABLE, 0x0101);
  pm.write(GPE, 8, 1, 0x04);
  pm.reset();
  expect(sci().at(-1)).toBe(false);
  expect([read16(STATUS), read16(ENABLE), pm.read(GPE, 0, 1), pm.read(GPE, 8, 1)]).toEqual([0, 0, 0x04, 0]);
});
