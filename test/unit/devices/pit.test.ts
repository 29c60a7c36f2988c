import { beforeEach, expect, test } from 'vitest';
import { Pit } from '../../../src/devices/pit.ts';
import { TestBoard } from './board.ts';

const HZ = 1_193_182;
/** The first nanosecond at which `ticks` of 1.193182 MHz have passed. */
const nanos = (ticks: number): number => Math.ceil((ticks * 1e9) / HZ);

let board: TestBoard;
let rises: number[];
let pit: Pit;

beforeEach(() => {
  board = new TestBoard();
  board.line = (gsi) => (level) => gsi === 0 && level && rises.push(board.nanos);
  rises = [];
  pit = new Pit(board);
});

const at = (ticks: number): void => {
  board.nanos = nanos(ticks);
};
const where = (port: number): [number, number] => (port === 0x61 ? [1, 0] : [0, port - 0x40]);
const write = (port: number, value: number): void => pit.write(...where(port), 1, value);
const read = (port: number): number => pit.read(...where(port));
const readWord = (port: number): number => read(port) | (read(port) << 8);
const out2 = (): boolean => (read(0x61) & 0x20) !== 0;
function out2At(ticks: number): boolean {
  at(ticks);
  return out2();
}

const gate2 = (level: boolean): void => write(0x61, level ? 1 : 0);

/** Programs counter 2 (gate high) and loads it now: control word, then low and high byte. */
function program2(mode: number, count: number, bcd = 0): void {
  write(0x43, 0xb0 | (mode << 1) | bcd);
  write(0x42, count & 0xff);
  write(0x42, count >> 8);
}

/** Reads counter 2 as it is board.nanos, through the latch. */
function counter2(): number {
  write(0x43, 0x80);
  return readWord(0x42);
}

test('mode 0: OUT is low for N ticks from the load, then high; the counter goes on through 0 to 0xffff', () => {
  gate2(true);
  program2(0, 100);
  expect(out2()).toBe(false);
  at(99);
  expect([out2(), counter2()]).toEqual([false, 1]);
  at(100);
  expect([out2(), counter2()]).toEqual([true, 0]);
  at(101);
  expect([out2(), counter2()]).toEqual([true, 0xffff]);
});

test('mode 0: the gate pauses the counter', () => {
  gate2(true);
  program2(0, 100);
  at(60);
  gate2(false);
  at(1000);
  expect(counter2()).toBe(40);
  gate2(true);
  at(1039);
  expect(out2()).toBe(false);
  at(1040);
  expect(out2()).toBe(true);
});

test('mode 0: the first of two bytes stops the counter and OUT falls, the second starts it', () => {
  gate2(true);
  program2(0, 10);
  at(20);
  write(0x42, 5);
  at(100);
  expect(out2()).toBe(false);
  write(0x42, 0);
  at(104);
  expect(out2()).toBe(false);
  at(105);
  expect(out2()).toBe(true);
});

test('mode 1: a rising gate starts a low pulse of N ticks and can start it anew', () => {
  program2(1, 10);
  at(50);
  expect(out2()).toBe(true);
  gate2(true);
  at(55);
  expect(out2()).toBe(false);
  gate2(false);
  gate2(true);
  at(64);
  expect(out2()).toBe(false);
  at(65);
  expect(out2()).toBe(true);
});

test('mode 2: OUT is low in the last tick of each period', () => {
  gate2(true);
  program2(2, 4);
  const levels: boolean[] = [];
  for (let tick = 0; tick < 8; tick++) {
    at(tick);
    levels.push(out2());
  }
  expect(levels).toEqual([true, true, true, false, true, true, true, false]);
});

test('mode 2: a new count takes effect at the end of the period', () => {
  gate2(true);
  program2(2, 100);
  at(250);
  write(0x42, 10);
  write(0x42, 0);
  expect(counter2()).toBe(50);
  at(299);
  expect(counter2()).toBe(1);
  at(300);
  expect(counter2()).toBe(10);
  at(309);
  expect(out2()).toBe(false);
});

test('modes 2 and 3: a low gate forces OUT high, a rising gate starts a new period', () => {
  gate2(true);
  program2(3, 10);
  at(7);
  expect(out2()).toBe(false);
  gate2(false);
  expect(out2()).toBe(true);
  at(23);
  gate2(true);
  at(27);
  expect(out2()).toBe(true);
  at(28);
  expect(out2()).toBe(false);
});

test('mode 3: OUT is high for half of an even count; the counter goes down by two, twice a period', () => {
  gate2(true);
  program2(3, 8);
  const seen: [boolean, number][] = [];
  for (let tick = 0; tick < 8; tick++) {
    at(tick);
    seen.push([out2(), counter2()]);
  }
  expect(seen.map(([out]) => out)).toEqual([true, true, true, true, false, false, false, false]);
  expect(seen.map(([, count]) => count)).toEqual([8, 6, 4, 2, 8, 6, 4, 2]);
});

test('mode 3: an odd count is high for (N + 1) / 2 ticks', () => {
  gate2(true);
  program2(3, 5);
  const levels: boolean[] = [];
  for (let tick = 0; tick < 6; tick++) {
    at(tick);
    levels.push(out2());
  }
  expect(levels).toEqual([true, true, true, false, false, true]);
});

test('mode 4: OUT is low for one tick N ticks after the load', () => {
  gate2(true);
  program2(4, 10);
  const levels = [9, 10, 11].map((tick) => out2At(tick));
  expect(levels).toEqual([true, false, true]);
});

test('mode 5: as mode 4, from a rising gate', () => {
  program2(5, 10);
  at(100);
  gate2(true);
  const levels = [109, 110, 111].map((tick) => out2At(tick));
  expect(levels).toEqual([true, false, true]);
});

test('modes 6 and 7 are 2 and 3', () => {
  gate2(true);
  program2(6, 4);
  write(0x43, 0xe8);
  expect(read(0x42) & 0x0e).toBe(0x04);
  program2(7, 4);
  write(0x43, 0xe8);
  expect(read(0x42) & 0x0e).toBe(0x06);
});

test('count 0 is 65,536, in BCD 10,000', () => {
  gate2(true);
  program2(0, 0);
  at(65_535);
  expect(out2()).toBe(false);
  at(65_536);
  expect(out2()).toBe(true);
  board.nanos = 0;
  program2(0, 0, 1);
  at(1);
  expect(counter2()).toBe(0x9999);
  at(9_999);
  expect(out2()).toBe(false);
  at(10_000);
  expect(out2()).toBe(true);
});

test('BCD counts are written and read in decimal digits', () => {
  gate2(true);
  program2(0, 0x1234, 1);
  at(35);
  expect(counter2()).toBe(0x1199);
});

test('a latched count stays until it is read, whatever is latched meanwhile', () => {
  gate2(true);
  program2(0, 1000);
  at(100);
  write(0x43, 0x80);
  at(200);
  write(0x43, 0x80);
  expect(readWord(0x42)).toBe(900);
  expect(readWord(0x42)).toBe(800);
});

test('access low only and high only read and write that byte; the other is 0', () => {
  gate2(true);
  write(0x43, 0x90); // low, mode 0
  write(0x42, 200);
  at(50);
  expect(read(0x42)).toBe(150);
  write(0x43, 0xa0); // high, mode 0
  write(0x42, 2);
  at(50 + 256);
  expect(read(0x42)).toBe(1);
});

test('read-back latches count and status of all named counters; status comes first', () => {
  gate2(true);
  program2(0, 1000);
  at(100);
  write(0x43, 0xc8);
  expect(read(0x42)).toBe(0x30);
  expect(readWord(0x42)).toBe(900);
});

test('status: OUT, null count until the load, access, mode and BCD', () => {
  gate2(true);
  write(0x43, 0xb7); // word, mode 3, BCD
  write(0x43, 0xe8);
  expect(read(0x42)).toBe(0x80 | 0x40 | 0x30 | 0x06 | 0x01);
  write(0x42, 0x10);
  write(0x42, 0x00);
  write(0x43, 0xe8);
  expect(read(0x42)).toBe(0x80 | 0x30 | 0x06 | 0x01);
});

test('port 0x43 reads 0', () => {
  expect(read(0x43)).toBe(0);
});

test('port 0x61 keeps gate and speaker bits; the others do not stick', () => {
  write(0x61, 0xff);
  expect(read(0x61) & 0xcf).toBe(0x03);
});

test('port 0x61 bit 4 toggles with the refresh, about every 15 us', () => {
  const levels = [0, 15_084, 15_085, 30_169, 30_170].map((time) => {
    board.nanos = time;
    return (read(0x61) >> 4) & 1;
  });
  expect(levels).toEqual([0, 0, 1, 1, 0]);
});

test('counter 0 in mode 2 interrupts at the end of each period, not a nanosecond before', () => {
  write(0x43, 0x34);
  write(0x40, 0xe8);
  write(0x40, 0x03); // 1000 ticks
  expect(pit.deadlineNanos()).toBe(nanos(1000));
  pit.advance(nanos(1000) - 1);
  expect(rises).toEqual([]);
  board.nanos = nanos(1000);
  pit.advance(board.nanos);
  expect(rises).toEqual([nanos(1000)]);
  expect(pit.deadlineNanos()).toBe(nanos(2000));
});

test('counter 0 in modes 0 and 4 interrupts once', () => {
  for (const [mode, ticks] of [
    [0, 1000],
    [4, 1001],
  ] as const) {
    board.nanos = 0;
    rises = [];
    write(0x43, 0x30 | (mode << 1));
    write(0x40, 0xe8);
    write(0x40, 0x03);
    expect(pit.deadlineNanos()).toBe(nanos(ticks));
    board.nanos = nanos(ticks);
    pit.advance(board.nanos);
    expect(rises).toHaveLength(1);
    expect(pit.deadlineNanos()).toBe(Number.POSITIVE_INFINITY);
    pit.reset();
  }
});

test('writing a control word disarms counter 0 until it is loaded', () => {
  write(0x43, 0x34);
  write(0x40, 0xe8);
  write(0x40, 0x03);
  write(0x43, 0x30);
  expect(pit.deadlineNanos()).toBe(Number.POSITIVE_INFINITY);
});

test('missed periods are one pulse', () => {
  write(0x43, 0x34);
  write(0x40, 0xe8);
  write(0x40, 0x03);
  board.nanos = nanos(3500);
  pit.advance(board.nanos);
  expect(rises).toHaveLength(1);
  expect(pit.deadlineNanos()).toBe(nanos(4000));
});

test('pulses keep 200 us apart however short the count', () => {
  write(0x43, 0x14); // low byte only, mode 2
  write(0x40, 2);
  board.nanos = pit.deadlineNanos();
  pit.advance(board.nanos);
  expect(pit.deadlineNanos()).toBe(board.nanos + 200_000);
});

test('a year of uptime does not move the period by a nanosecond', () => {
  const year = 365 * 86_400;
  board.nanos = year * 1e9;
  write(0x43, 0x34);
  write(0x40, 0xe8);
  write(0x40, 0x03);
  expect(pit.deadlineNanos()).toBe(year * 1e9 + nanos(1000));
});

test('a count latched by read-back, or a status, is what was asked for: each bit means "not this one"', () => {
  gate2(true);
  program2(2, 1000);
  write(0x43, 0xd8); // read-back of counter 2: count, no status
  at(300);
  expect(readWord(0x42)).toBe(1000);
  write(0x43, 0xe8); // status, no count
  expect(read(0x42)).toBe(0xb4);
  expect(readWord(0x42)).toBe(700);
  write(0x43, 0xf8); // neither
  at(400);
  expect(readWord(0x42)).toBe(600);
  write(0x43, 0xc8); // both: the status comes first
  at(500);
  expect([read(0x42), readWord(0x42)]).toEqual([0xb4, 600]);
});

test.each([2, 3])('mode %i: the gate stops the counter, with OUT high, and its edge starts the period anew', (mode) => {
  gate2(true);
  program2(mode, 1000);
  at(600);
  const stopped = counter2();
  gate2(false);
  expect(out2()).toBe(true);
  at(5000);
  expect([counter2(), out2()]).toEqual([stopped, true]);
  gate2(true);
  expect(counter2()).toBe(1000);
  expect([out2At(5000 + 999), out2At(5000 + 1000)]).toEqual([false, true]);
});

test.each([2, 3])('mode %i: a count written while the gate is low is in force from the edge on', (mode) => {
  gate2(false);
  program2(mode, 1000);
  at(100);
  expect(counter2()).toBe(1000);
  write(0x42, 200);
  write(0x42, 0);
  at(500);
  expect(counter2()).toBe(1000);
  gate2(true);
  expect(counter2()).toBe(200);
  expect([out2At(500 + 199), out2At(500 + 200)]).toEqual([false, true]);
});

test('mode 3: a new count takes effect at the end of the half period that is under way', () => {
  gate2(true);
  program2(3, 1000);
  at(100);
  write(0x42, 200);
  write(0x42, 0);
  expect([499, 500, 599, 600, 699, 700].map(out2At)).toEqual([true, false, false, true, true, false]);
  at(710); // in a low half
  write(0x42, 400 & 0xff);
  write(0x42, 400 >> 8);
  expect([799, 800, 999, 1000, 1200].map(out2At)).toEqual([false, true, true, false, true]);
});

test('mode 3 of counter 0: the interrupt of a new count comes at the end of its low half', () => {
  write(0x43, 0x36);
  write(0x40, 60_000 & 0xff);
  write(0x40, 60_000 >> 8);
  at(100);
  write(0x40, 1000 & 0xff);
  write(0x40, 1000 >> 8);
  expect(pit.deadlineNanos()).toBe(nanos(30_000 + 500));
});
