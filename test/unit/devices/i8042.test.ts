import { beforeEach, expect, test } from 'vitest';
import { I8042 } from '../../../src/devices/i8042.ts';
import { ResetControl } from '../../../src/devices/reset.ts';
import { TestBoard } from './board.ts';

// Ranges: 0 data (0x60), 1 command and status (0x64), 2 system control port A (0x92).
let board: TestBoard;
let controller: I8042;

beforeEach(() => {
  board = new TestBoard();
  controller = new I8042(board);
});

const resets = (): string[] => board.events('reset').map(({ kind }) => kind);
const keyboard = (): boolean[] => board.levels(1);
const mouse = (): boolean[] => board.levels(12);
const command = (value: number): void => controller.write(1, 0, 1, value);
const data = (value: number): void => controller.write(0, 0, 1, value);
const status = (): number => controller.read(1);

function answer(value: number): number {
  command(value);
  return controller.read(0);
}

test('self test answers 0x55 and sets the system flag', () => {
  expect(status() & 0x04).toBe(0);
  command(0xaa);
  expect(status()).toBe(0x1d); // output full, system, last write a command, not locked
  expect(controller.read(0)).toBe(0x55);
  expect(status() & 0x01).toBe(0);
});

test('both port tests pass', () => {
  expect([answer(0xab), answer(0xa9)]).toEqual([0, 0]);
});

test('the configuration byte is read, written, and follows enable and disable commands', () => {
  command(0x60);
  data(0x47);
  expect(answer(0x20)).toBe(0x47);
  command(0xad);
  command(0xa7);
  expect(answer(0x20)).toBe(0x77);
  command(0xae);
  command(0xa8);
  expect(answer(0x20)).toBe(0x47);
});

test('the output port: A20 in bit 1, reset when bit 0 is written as 0', () => {
  command(0xd1);
  data(0xdd);
  expect(answer(0xd0)).toBe(0xdd);
  expect(controller.read(2)).toBe(0);
  command(0xdf);
  expect(controller.read(2)).toBe(0x02);
  command(0xd1);
  data(0xde);
  expect(resets()).toEqual(['init']);
});

test('port 0x92: bit 1 is A20', () => {
  controller.write(2, 0, 1, 0x00);
  expect(controller.read(2)).toBe(0x00);
  controller.write(2, 0, 1, 0x02);
  expect(controller.read(2)).toBe(0x02);
  expect(resets()).toEqual([]);
});

test('port 0x92 bit 0 sends INIT when it goes from 0 to 1, and stays until a reset of the machine', () => {
  controller.write(2, 0, 1, 0x03);
  controller.write(2, 0, 1, 0x03);
  expect(resets()).toEqual(['init']);
  expect(controller.read(2)).toBe(0x03);
  controller.reset();
  expect(controller.read(2)).toBe(0x02);
});

test('a byte written to the keyboard buffer interrupts on IRQ 1 until it is read, if the configuration says so', () => {
  command(0xd2);
  data(0x1c);
  expect(keyboard()).toEqual([true]);
  expect(controller.read(0)).toBe(0x1c);
  expect(keyboard()).toEqual([true, false]);
  command(0x60);
  data(0x00);
  command(0xd2);
  data(0x1c);
  expect(keyboard()).toEqual([true, false]);
});

test('a byte written to the mouse buffer shows as auxiliary data and interrupts on IRQ 12', () => {
  command(0x60);
  data(0x03);
  command(0xd3);
  data(0xaa);
  expect(status() & 0x21).toBe(0x21);
  expect([mouse(), keyboard()]).toEqual([[true], []]);
  expect(controller.read(0)).toBe(0xaa);
  expect(mouse()).toEqual([true, false]);
});

test('a new command forgets the data byte the last one waited for', () => {
  command(0x60);
  command(0xaa);
  data(0x00);
  controller.read(0);
  expect(answer(0x20)).toBe(0x01);
});

test('reset empties the output buffer', () => {
  command(0xaa);
  controller.reset();
  expect(status()).toBe(0x10);
  expect(keyboard().at(-1)).toBe(false);
});

test('0xcf9: bit 2 resets; bit 1, which is kept, chooses between INIT and the whole machine', () => {
  const device = new ResetControl(board);
  device.write(0, 1, 1, 0x02);
  expect([device.read(0, 1, 1), resets()]).toEqual([0x02, []]);
  device.write(0, 1, 1, 0x06);
  device.write(0, 1, 1, 0x00);
  device.write(0, 1, 1, 0x04);
  expect(resets()).toEqual(['hard', 'init']);
});

test('a PCI configuration address written over 0xcf9 resets nothing, and no PCI answers', () => {
  const device = new ResetControl(board);
  device.write(0, 0, 4, 0x80000600);
  device.write(0, 1, 2, 0x0606);
  device.write(0, 0, 1, 0x06);
  expect(resets()).toEqual([]);
  expect([device.read(0, 0, 4), device.read(0, 0, 2), device.read(0, 3, 1)]).toEqual([0xffffffff, 0xffff, 0xff]);
});

test.each([0xfe, 0xf0, 0xf2])('command 0x%x pulses the reset line', (value) => {
  command(value);
  expect(resets()).toEqual(['init']);
});

test.each([0xff, 0xf1])('command 0x%x leaves the reset line alone', (value) => {
  command(value);
  expect(resets()).toEqual([]);
});

// The status says that a keyboard is there; GNU Mach, U-Boot and Bochs' BIOS wait for its answers.
test.each([
  ['reset', [0xff], [0xfa, 0xaa]],
  ['identify', [0xf2], [0xfa, 0xab, 0x83]],
  ['echo', [0xee], [0xee]],
  ['LEDs and their value', [0xed, 0x07], [0xfa, 0xfa]],
  ['enable', [0xf4], [0xfa]],
])('the keyboard answers %s', (_name, bytes, answers) => {
  for (const byte of bytes) data(byte);
  for (const byte of answers) {
    expect(status() & 0x21).toBe(0x01);
    expect(controller.read(0)).toBe(byte);
  }
  expect(status() & 0x01).toBe(0);
});

test('each byte of an answer interrupts', () => {
  data(0xf2);
  for (let i = 0; i < 3; i++) controller.read(0);
  expect(keyboard()).toEqual([true, false, true, false, true, false]);
});

test('a keyboard that is told something new forgets what it had to say', () => {
  for (let i = 0; i < 1000; i++) data(0xf2);
  expect([0, 1, 2, 3].map(() => controller.read(0))).toEqual([0xfa, 0xfa, 0xab, 0x83]);
  expect(status() & 0x01).toBe(0);
});

test('a keyboard whose clock is off is silent until it is told something, or its clock is on', () => {
  data(0xf2);
  command(0xad);
  controller.read(0);
  expect(status() & 0x01).toBe(0);
  command(0xae);
  expect(controller.read(0)).toBe(0xab);
  command(0xad);
  data(0xee);
  controller.read(0);
  expect(controller.read(0)).toBe(0xee);
  expect(answer(0x20) & 0x10).toBe(0);
});

test('a byte for the mouse is for nobody, and not for the keyboard', () => {
  command(0xd4);
  data(0xff);
  expect(status() & 0x01).toBe(0);
});

test('reset makes the keyboard forget its answers', () => {
  data(0xf2);
  controller.reset();
  controller.read(0);
  expect(status() & 0x01).toBe(0);
});
