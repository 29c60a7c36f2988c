import { beforeEach, expect, test } from 'vitest';
import { DebugExit } from '../../../src/devices/debug-exit.ts';
import { Serial } from '../../../src/devices/serial.ts';
import { TestBoard } from './board.ts';

// Registers by the PC16550D data sheet, table II.
const [DATA, IER, IIR, FCR, LCR, MCR, LSR, MSR, SCR] = [0, 1, 2, 2, 3, 4, 5, 6, 7];

let board: TestBoard;
let serial: Serial;

beforeEach(() => {
  board = new TestBoard();
  serial = new Serial(board);
});

const sent = (): number[] => board.events('transmit').map(({ byte }) => byte);
const line = (): boolean[] => board.levels(4);
const read = (register: number): number => serial.read(0, register);
const write = (register: number, value: number): void => serial.write(0, register, 1, value);
const type = (text: string): number => serial.receive(new TextEncoder().encode(text));
const high = (): boolean => line().at(-1) ?? false;

test('after reset: nothing pending, transmitter empty, modem connected, FIFOs off', () => {
  expect([IER, IIR, LCR, MCR, LSR, MSR, SCR].map(read)).toEqual([0, 0x01, 0, 0, 0x60, 0xb0, 0]);
});

test('a byte written to THR is transmitted and THRE stays set', () => {
  write(DATA, 0x41);
  expect(sent()).toEqual([0x41]);
  expect(read(LSR)).toBe(0x60);
});

test('DLAB turns offsets 0 and 1 into the divisor latch', () => {
  write(LCR, 0x83);
  write(DATA, 0x34);
  write(IER, 0x12);
  expect([read(DATA), read(IER)]).toEqual([0x34, 0x12]);
  write(LCR, 0x03);
  expect(sent()).toEqual([]);
  expect(read(IER)).toBe(0);
});

test('the scratch register keeps its value; LSR and MSR ignore writes', () => {
  write(SCR, 0xa5);
  write(LSR, 0);
  write(MSR, 0);
  expect([read(SCR), read(LSR), read(MSR)]).toEqual([0xa5, 0x60, 0xb0]);
});

test('IER has four bits and MCR five', () => {
  write(IER, 0xff);
  write(MCR, 0xef);
  expect([read(IER), read(MCR)]).toEqual([0x0f, 0x0f]);
});

test('enabling the THR-empty interrupt raises it at once; reading IIR takes it back', () => {
  write(IER, 0x02);
  expect(line()).toEqual([true]);
  expect(read(IIR)).toBe(0x02);
  expect(line()).toEqual([true, false]);
  expect(read(IIR)).toBe(0x01);
});

test('writing THR while its interrupt is enabled makes a new rising edge', () => {
  write(IER, 0x02);
  write(DATA, 0x41);
  expect(line()).toEqual([true, false, true]);
  expect(read(IIR)).toBe(0x02);
});

test('writing IER again without a rising THRI bit does not raise the interrupt anew', () => {
  write(IER, 0x02);
  read(IIR);
  write(IER, 0x03);
  expect(high()).toBe(false);
});

test('without FIFOs one byte waits in RBR, the rest in the host queue, in order', () => {
  expect(type('abc')).toBe(3);
  expect(read(LSR)).toBe(0x61);
  expect([read(DATA), read(DATA), read(DATA)]).toEqual([0x61, 0x62, 0x63]);
  expect(read(LSR)).toBe(0x60);
  expect(read(DATA)).toBe(0);
});

test('received data interrupts while any byte waits and IER asks for it', () => {
  type('ab');
  expect(line()).toEqual([]);
  write(IER, 0x01);
  expect(read(IIR)).toBe(0x04);
  read(DATA);
  expect(high()).toBe(true);
  read(DATA);
  expect(high()).toBe(false);
});

test('with FIFOs, IIR says "received" at the trigger level and "timeout" below it', () => {
  write(FCR, 0x81); // 8 bytes
  write(IER, 0x01);
  type('1234567');
  expect(read(IIR)).toBe(0xcc);
  type('8');
  expect(read(IIR)).toBe(0xc4);
  read(DATA);
  expect(read(IIR)).toBe(0xcc);
});

test.each([
  [0x01, 1],
  [0x41, 4],
  [0x81, 8],
  [0xc1, 14],
])('FCR 0x%x sets the trigger level to %i bytes', (fcr, bytes) => {
  write(FCR, fcr);
  write(IER, 0x01);
  type('x'.repeat(bytes));
  expect(read(IIR) & 0x0f).toBe(0x04);
});

test('FCR bits are not programmed while bit 0 is written as 0', () => {
  write(FCR, 0xc0);
  write(IER, 0x01);
  type('x');
  expect(read(IIR)).toBe(0x04);
});

test('switching the FIFOs on or off, and FCR bit 1, empties the receiver', () => {
  type('x');
  write(FCR, 0x01);
  expect(read(LSR) & 1).toBe(0);
  type('y');
  write(FCR, 0x03);
  expect(read(LSR) & 1).toBe(0);
  type('z');
  write(FCR, 0x00);
  expect(read(LSR) & 1).toBe(0);
  expect(read(IIR)).toBe(0x01);
});

test('priority of interrupts: line status, received data, THR empty, modem status', () => {
  write(MCR, 0x10); // loopback: modem inputs fall
  write(DATA, 1);
  write(DATA, 2); // overrun
  write(IER, 0x0f);
  expect(read(IIR)).toBe(0x06);
  read(LSR);
  expect(read(IIR)).toBe(0x04);
  read(DATA);
  expect(read(IIR)).toBe(0x02);
  expect(read(IIR)).toBe(0x00);
  read(MSR);
  expect(read(IIR)).toBe(0x01);
  expect(high()).toBe(false);
});

test('loopback: THR feeds RBR, nothing is transmitted, and the wire is disconnected', () => {
  write(MCR, 0x10);
  write(DATA, 0x5a);
  type('q');
  expect(sent()).toEqual([]);
  expect(read(DATA)).toBe(0x5a);
  expect(read(LSR) & 1).toBe(0);
  write(MCR, 0x00);
  expect(read(DATA)).toBe(0x71);
});

test('loopback: DTR, RTS, OUT1 and OUT2 appear as DSR, CTS, RI and DCD', () => {
  for (const [mcr, msr] of [
    [0x11, 0x20],
    [0x12, 0x10],
    [0x14, 0x40],
    [0x18, 0x80],
  ] as const) {
    write(MCR, mcr);
    expect(read(MSR) & 0xf0).toBe(msr);
  }
});

test('modem status deltas: changed inputs are marked, RI only on its trailing edge, reading clears them', () => {
  write(MCR, 0x10);
  expect(read(MSR) & 0x0f).toBe(0x0b);
  write(MCR, 0x14);
  expect(read(MSR) & 0x0f).toBe(0);
  write(MCR, 0x10);
  expect(read(MSR) & 0x0f).toBe(0x04);
  expect(read(MSR) & 0x0f).toBe(0);
});

test('overrun in loopback: without FIFOs the new byte wins, with FIFOs the old ones stay; reading LSR clears it', () => {
  write(MCR, 0x10);
  write(DATA, 1);
  write(DATA, 2);
  expect(read(LSR)).toBe(0x63);
  expect(read(LSR)).toBe(0x61);
  expect(read(DATA)).toBe(2);
  write(FCR, 0x01);
  for (let i = 0; i < 17; i++) write(DATA, i);
  expect(read(LSR) & 0x02).toBe(0x02);
  expect(Array.from({ length: 16 }, () => read(DATA))).toEqual(Array.from({ length: 16 }, (_, i) => i));
});

test('the input queue is bounded: what does not fit is left to the host, which is told when there is room', () => {
  const bytes = Uint8Array.from({ length: 5000 }, (_, i) => i);
  const taken = serial.receive(bytes);
  expect(taken).toBe(4096);
  expect(serial.receive(bytes.subarray(taken))).toBe(1); // one moved on to RBR
  const got: number[] = [];
  for (let i = 0; i < 4096; i++) got.push(read(DATA));
  expect(board.events('input-room')).toHaveLength(1);
  got.push(read(DATA));
  expect(got).toEqual([...bytes.subarray(0, 4097)]);
});

test('reset drops the interrupt and the FIFO but not the input the guest has not seen', () => {
  write(IER, 0x01);
  type('ab');
  serial.reset();
  expect(high()).toBe(false);
  expect(read(IER)).toBe(0);
  expect(read(DATA)).toBe(0x62);
});

test('the interrupt line is driven only when it changes', () => {
  write(IER, 0x01);
  type('abc');
  write(SCR, 1);
  write(LCR, 3);
  expect(line()).toEqual([true]);
});

test('debug exit: a write of v ends the run with (v << 1) | 1; reads are 0', () => {
  const device = new DebugExit(board);
  device.write(0, 0, 1, 0);
  device.write(0, 0, 4, 0x2a);
  device.write(0, 0, 4, 0xffffffff);
  expect(board.events('debug-exit').map(({ status }) => status)).toEqual([1, 0x55, 0xffffffff]);
  expect(device.read()).toBe(0);
});
