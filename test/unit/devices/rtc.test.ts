import { beforeEach, expect, test } from 'vitest';
import { Rtc } from '../../../src/devices/rtc.ts';
import { TestBoard } from './board.ts';

const SECOND = 1e9;
/** 2024-02-28 23:59:58 UTC, a Wednesday, in a leap year. */
const START = Date.UTC(2024, 1, 28, 23, 59, 58) / 1000;
const [A, B, C, D] = [10, 11, 12, 13];

let board: TestBoard;
let rtc: Rtc;

beforeEach(() => {
  board = new TestBoard();
  board.nanos = 5 * SECOND; // the machine's clock need not start at 0
  rtc = new Rtc(board, {
    startSeconds: START,
    memory: { lowBytes: 64 * 2 ** 20, highBytes: 3 * 2 ** 30, cpus: 4 },
  });
});

const line = (): boolean[] => board.levels(8);

function read(index: number): number {
  rtc.write(0, 0, 1, index);
  return rtc.read(0, 1);
}

function write(index: number, value: number): void {
  rtc.write(0, 0, 1, index);
  rtc.write(0, 1, 1, value);
}

function advance(nanos: number): void {
  board.nanos = nanos;
  rtc.advance(nanos);
}

const after = (seconds: number): void => {
  board.nanos = 5 * SECOND + seconds * SECOND;
};
/** century, year, month, day, weekday, hour, minute, second as the registers read. */
const clock = (): number[] => [0x32, 9, 8, 7, 6, 4, 2, 0].map(read);

test('the time reads in BCD and 24 hours after power-up, and carries into a leap day', () => {
  expect(clock()).toEqual([0x20, 0x24, 0x02, 0x28, 0x04, 0x23, 0x59, 0x58]);
  after(2);
  expect(clock()).toEqual([0x20, 0x24, 0x02, 0x29, 0x05, 0x00, 0x00, 0x00]);
});

test('the second changes at its nanosecond', () => {
  board.nanos += SECOND - 1;
  expect(read(0)).toBe(0x58);
  board.nanos += 1;
  expect(read(0)).toBe(0x59);
});

test('register B bit 2 chooses binary', () => {
  write(B, 0x06);
  expect(clock()).toEqual([20, 24, 2, 28, 4, 23, 59, 58]);
});

test('register B bit 1 clear: 12 hours with PM in bit 7; midnight and noon are 12', () => {
  write(B, 0x00);
  expect(read(4)).toBe(0x91); // 11 PM
  after(2);
  expect(read(4)).toBe(0x12);
  after(2 + 12 * 3600);
  expect(read(4)).toBe(0x92);
});

test('SET freezes the registers; the time written runs on from there when it is cleared', () => {
  write(B, 0x82);
  after(10);
  expect(read(0)).toBe(0x58);
  for (const [index, value] of [
    [0, 0x30],
    [2, 0x15],
    [4, 0x07],
    [7, 0x31],
    [8, 0x12],
    [9, 0x99],
    [0x32, 0x19],
  ] as const)
    write(index, value);
  write(B, 0x02);
  expect(clock()).toEqual([0x19, 0x99, 0x12, 0x31, 0x06, 0x07, 0x15, 0x30]);
  after(11);
  expect(read(0)).toBe(0x31);
});

test('a time register written while the clock runs changes that field only', () => {
  write(2, 0x10);
  expect(clock()).toEqual([0x20, 0x24, 0x02, 0x28, 0x04, 0x23, 0x10, 0x58]);
});

test('update in progress is set for 244 us before each update, and never while SET', () => {
  const uip = (): number => read(A) & 0x80;
  board.nanos = 6 * SECOND - 244_141;
  expect(uip()).toBe(0);
  board.nanos += 1;
  expect(uip()).toBe(0x80);
  board.nanos = 6 * SECOND - 1;
  expect(uip()).toBe(0x80);
  write(B, 0x82);
  expect(uip()).toBe(0);
  board.nanos = 6 * SECOND;
  write(B, 0x02);
  expect(uip()).toBe(0);
});

test('update-ended interrupt: at the second, once, until register C is read', () => {
  write(B, 0x12);
  expect(rtc.deadlineNanos()).toBe(6 * SECOND);
  rtc.advance(6 * SECOND - 1);
  expect(line()).toEqual([]);
  advance(6 * SECOND);
  expect(line()).toEqual([true]);
  expect(rtc.deadlineNanos()).toBe(Number.POSITIVE_INFINITY);
  expect(read(C) & 0x90).toBe(0x90);
  expect(line()).toEqual([true, false]);
  expect(rtc.deadlineNanos()).toBe(7 * SECOND);
});

test('flags are set whether or not their interrupt is enabled; reading C clears them', () => {
  after(1);
  expect(read(C)).toBe(0x50); // PF and UF
  expect(read(C)).toBe(0);
  expect(line()).toEqual([]);
});

test('enabling an interrupt whose flag is set raises the line at once', () => {
  after(1);
  write(B, 0x12);
  expect(line()).toEqual([true]);
});

test('SET clears the update-ended enable', () => {
  write(B, 0x92);
  expect(read(B)).toBe(0x82);
});

test('alarm: interrupts when hours, minutes and seconds match, not a nanosecond before', () => {
  write(5, 0x00);
  write(3, 0x01);
  write(1, 0x02);
  read(C);
  write(B, 0x22);
  const due = 5 * SECOND + (2 + 62) * SECOND; // 00:01:02
  expect(rtc.deadlineNanos()).toBe(due);
  advance(due - 1);
  expect(line()).toEqual([]);
  advance(due);
  expect(line()).toEqual([true]);
  expect(read(C) & 0xa0).toBe(0xa0);
  expect(rtc.deadlineNanos()).toBe(due + 86_400 * SECOND);
});

test.each([
  [0xc0, 0xff, 0xff, 1], // every second
  [0x10, 0xff, 0xff, 12], // second 10 of each minute
  [0x10, 0x05, 0xff, 2 + 310], // second 10, minute 5 of each hour
  [0x58, 0x59, 0x23, 86_400], // the very moment it is set at: tomorrow
  [0xff, 0x30, 0x04, 2 + 4.5 * 3600], // the first second of 04:30
])('alarm with "do not care" parts: %i %i %i is due after %i s', (second, minute, hour, seconds) => {
  write(1, second);
  write(3, minute);
  write(5, hour);
  write(B, 0x22);
  expect(rtc.deadlineNanos()).toBe(5 * SECOND + seconds * SECOND);
});

test('an alarm that no time can match has no deadline', () => {
  write(1, 0x75);
  write(B, 0x22);
  expect(rtc.deadlineNanos()).toBe(Number.POSITIVE_INFINITY);
});

test('an alarm in 12-hour mode', () => {
  write(B, 0x00);
  write(1, 0x00);
  write(3, 0x00);
  write(5, 0x81); // 1 PM
  write(B, 0x20);
  expect(rtc.deadlineNanos()).toBe(5 * SECOND + (2 + 13 * 3600) * SECOND);
});

test.each([
  [1, 256],
  [2, 128],
  [3, 8192],
  [6, 1024],
  [15, 2],
])('periodic rate %i is %i Hz', (rate, hz) => {
  write(A, 0x20 | rate);
  read(C);
  write(B, 0x42);
  const due = 5 * SECOND + Math.ceil(SECOND / hz);
  expect(rtc.deadlineNanos()).toBe(due);
  advance(due - 1);
  expect(line()).toEqual([]);
  advance(due);
  expect(line()).toEqual([true]);
});

test('periodic rate 0 never interrupts', () => {
  write(A, 0x20);
  write(B, 0x42);
  expect(rtc.deadlineNanos()).toBe(Number.POSITIVE_INFINITY);
});

test('a divider held in reset stops the time; the first update comes half a second after it is let go', () => {
  write(A, 0x66);
  after(10);
  expect(read(0)).toBe(0x58);
  write(A, 0x26);
  board.nanos += SECOND / 2 - 1;
  expect(read(0)).toBe(0x58);
  board.nanos += 1;
  expect(read(0)).toBe(0x59);
});

test('register A bit 7, C and D are read-only; D says the battery is good', () => {
  write(A, 0xff & ~0x60);
  expect(read(A)).toBe(0x1f);
  write(C, 0xff);
  write(D, 0);
  expect([read(C), read(D)]).toEqual([0, 0x80]);
});

test('the index has seven bits (bit 7 masks NMI) and port 0x70 reads all ones', () => {
  write(0x8f, 0x5a);
  expect(read(0x0f)).toBe(0x5a);
  expect(rtc.read(0, 0)).toBe(0xff);
});

test('CMOS tells base and extended memory, memory over 16 MiB and over 4 GiB, and the number of CPUs', () => {
  const word = (index: number): number => read(index) | (read(index + 1) << 8);
  expect(word(0x15)).toBe(640);
  expect(word(0x17)).toBe(63 * 1024);
  expect(word(0x30)).toBe(63 * 1024);
  expect(word(0x34)).toBe((48 * 2 ** 20) / 65_536);
  expect(word(0x5b) | (read(0x5d) << 16)).toBe((3 * 2 ** 30) / 65_536);
  expect(read(0x5f)).toBe(3);
});

test('memory sizes that do not fit are cut to the largest that does', () => {
  rtc = new Rtc(board, {
    startSeconds: START,
    memory: { lowBytes: 3 * 2 ** 30, highBytes: 0, cpus: 1024 },
  });
  expect([read(0x17), read(0x18), read(0x5f)]).toEqual([0xff, 0xff, 0xff]);
});

test('reset switches interrupts off; shutdown status, time and CMOS stay', () => {
  write(0x0f, 0x05);
  write(B, 0x72);
  after(1);
  rtc.advance(board.nanos);
  rtc.reset();
  expect(line().at(-1)).toBe(false);
  expect([read(B), read(0x0f), read(0)]).toEqual([0x02, 0x05, 0x59]);
  expect(rtc.shutdownStatus).toBe(0x05);
});

test('hours written in 12-hour mode are hours of the day: 11 PM is 23, 12 AM is 0, 12 PM is 12', () => {
  for (const [written, shown] of [
    [0x91, 0x23],
    [0x12, 0x00],
    [0x92, 0x12],
    [0x01, 0x01],
  ] as const) {
    write(B, 0x00);
    write(4, written);
    expect(read(4)).toBe(written);
    write(B, 0x02);
    expect(read(4)).toBe(shown);
  }
});
