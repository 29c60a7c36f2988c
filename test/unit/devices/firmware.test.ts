import { beforeEach, expect, test } from 'vitest';
import { Crtc } from '../../../src/devices/crtc.ts';
import { DebugConsole } from '../../../src/devices/debug-console.ts';
import { Firmware } from '../../../src/devices/firmware.ts';
import { TestBoard } from './board.ts';

let board: TestBoard;
let firmware: Firmware;

beforeEach(() => {
  board = new TestBoard();
  firmware = new Firmware(board);
});

test('a write of offset 0 asks for a start of the image, each time', () => {
  firmware.write(0, 0, 1, 0);
  firmware.write(0, 0, 2, 0xffff);
  expect(board.events('restart')).toHaveLength(2);
});

test('a BIOS call is reported with its vector and AX, the first of a run only, also over a reset', () => {
  const call = (vector: number, ax: number): void => {
    firmware.write(0, 2, 2, ax);
    firmware.write(0, 4, 2, vector);
  };
  call(0x13, 0x0201);
  call(0x16, 0x0100);
  firmware.reset();
  call(0x15, 0xe820);
  expect(board.events('bios-call')).toEqual([{ type: 'bios-call', vector: 0x13, ax: 0x0201 }]);
});

test('nothing reads back', () => {
  firmware.write(0, 2, 2, 0x1234);
  expect([firmware.read(0, 0, 1), firmware.read(0, 2, 2), firmware.read(0, 4, 4)]).toEqual([0xff, 0xffff, 0xffffffff]);
});

test('debug consoles at 0xe9 and 0x402: a read answers 0xe9, a write is text', () => {
  const device = new DebugConsole(board);
  expect(device.ranges.map(({ base, length }) => [base, length])).toEqual([
    [0xe9, 1],
    [0x402, 1],
  ]);
  expect(device.read()).toBe(0xe9);
  for (const character of 'ok') device.write(0, 0, 1, character.charCodeAt(0));
  expect(board.events('debug-output').map(({ byte }) => byte)).toEqual([0x6f, 0x6b]);
});

test('CRT controller: the index chooses a register, each keeps what was written, reset is 80x25 with the page at 0', () => {
  const crtc = new Crtc(() => {});
  const read = (index: number): number => {
    crtc.write(0, 0, 1, index);
    return crtc.read(0, 1);
  };
  crtc.write(0, 0, 1, 0x0e);
  crtc.write(0, 1, 1, 0x07);
  crtc.write(0, 0, 1, 0x0f);
  crtc.write(0, 1, 1, 0x80);
  expect([crtc.read(0, 0), read(0x0e), read(0x0f)]).toEqual([0x0f, 0x07, 0x80]);
  expect(read(0x2f)).toBe(0x80); // bits above the index are not decoded
  crtc.reset();
  expect([0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f].map(read)).toEqual([13, 14, 0, 0, 0, 0]);
});

test('CRT controller: tells where the picture begins when that is written, restored or reset, and for no other register', () => {
  const told: number[] = [];
  const crtc = new Crtc((cell) => told.push(cell));
  const write = (index: number, value: number): void => {
    crtc.write(0, 0, 1, index);
    crtc.write(0, 1, 1, value);
  };
  for (const [index, value] of [
    [0x0c, 0x07],
    [0x0d, 0xd0],
    [0x0e, 0xff],
    [0x0b, 1],
    [0x13, 40],
  ] as const)
    write(index, value);
  expect(told).toEqual([0x700, 0x7d0]);
  const saved = crtc.save();
  crtc.reset();
  crtc.restore(saved);
  expect(told.slice(2)).toEqual([0, 0x7d0]);
});
