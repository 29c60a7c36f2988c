import { beforeEach, expect, test } from 'vitest';
import { CpuHotplug } from '../../../src/devices/cpu-hotplug.ts';
import { TestBoard } from './board.ts';

// Offsets and bits by QEMU's docs/specs/acpi_cpu_hotplug.rst.
let board: TestBoard;
let block: CpuHotplug;

beforeEach(() => {
  board = new TestBoard();
  block = new CpuHotplug(board);
  block.addSlot(0, true);
  block.addSlot(0x23, true);
  block.addSlot(0x123, false);
  block.addSlot(0xfffffffe, false);
});

const levels = (): boolean[] => board.levels(20);
const ejected = (): number[] => board.events('ejected').map(({ slot }) => slot);
const reports = (): number[][] => board.events('ost').map(({ slot, event, status }) => [slot, event, status]);
const select = (slot: number): void => block.write(0, 0, 4, slot);
const flags = (): number => block.read(0, 4, 1);
const setFlags = (value: number): void => block.write(0, 4, 1, value);
const command = (value: number): void => block.write(0, 5, 1, value);
const data = (): number => block.read(0, 8, 4);
const data2 = (): number => block.read(0, 0, 4);

test('it sits at ICH9 port 0x0cd8 and is 12 ports long', () => {
  expect(block.ranges).toEqual([{ space: 'pio', base: 0x0cd8, length: 12 }]);
});

test('the detection sequence of the specification finds the modern interface', () => {
  select(0);
  command(0);
  expect(data2()).toBe(0);
});

test('the enumeration sequence of the specification counts present and possible CPUs', () => {
  let present = 0;
  let slot = 0;
  select(0);
  command(0);
  do {
    if (flags() & 1) present++;
    select(++slot);
  } while (data() !== 0);
  expect([present, slot]).toEqual([2, 4]);
});

test('command 3 answers the 32-bit APIC ID of the selected slot, its upper half is 0', () => {
  command(3);
  select(2);
  expect([data(), data2()]).toEqual([0x123, 0]);
  select(3);
  expect([data(), data2()]).toEqual([0xfffffffe, 0]);
  expect(block.read(0, 8, 2)).toBe(0xfffe);
});

test('plugging sets enabled and insert, raises the line, and command 0 finds the slot', () => {
  expect(block.plug(2)).toBe(true);
  expect(levels()).toEqual([true]);
  select(0);
  command(0);
  expect(data()).toBe(2);
  expect(flags()).toBe(0x03);
  setFlags(0x02);
  expect(flags()).toBe(0x01);
  expect(levels()).toEqual([true, false]);
});

test('the line stays high until the last event is acknowledged', () => {
  block.plug(2);
  block.plug(3);
  select(2);
  setFlags(0x02);
  expect(levels()).toEqual([true]);
  command(0);
  expect(data()).toBe(3);
  setFlags(0x02);
  expect(levels()).toEqual([true, false]);
});

test('command 0 without events leaves the selector alone', () => {
  select(1);
  command(0);
  expect(data()).toBe(1);
});

test('command 0 searches from the selector on and wraps', () => {
  block.plug(2);
  block.requestUnplug(1);
  select(2);
  command(0);
  expect(data()).toBe(2);
  select(3);
  command(0);
  expect(data()).toBe(1);
});

test('a CPU nobody asked to remove cannot be ejected()', () => {
  select(1);
  setFlags(0x08);
  expect(ejected()).toEqual([]);
  expect(flags()).toBe(0x01);
});

test('removal: event, acknowledgement, eject; the request outlives the acknowledgement', () => {
  expect(block.requestUnplug(1)).toBe(true);
  select(1);
  expect(flags()).toBe(0x05);
  setFlags(0x04);
  expect(flags()).toBe(0x01);
  expect(levels()).toEqual([true, false]);
  setFlags(0x08);
  expect(ejected()).toEqual([1]);
  expect(flags()).toBe(0);
});

test('a second eject of the same slot does nothing, and a CPU that came back needs a new request', () => {
  block.requestUnplug(1);
  select(1);
  setFlags(0x08);
  setFlags(0x08);
  block.plug(1);
  setFlags(0x08);
  expect(ejected()).toEqual([1]);
  expect(flags()).toBe(0x03);
});

test('ejecting without acknowledging first clears the event and drops the line', () => {
  block.requestUnplug(1);
  select(1);
  setFlags(0x08);
  expect(levels()).toEqual([true, false]);
});

test('one write of the flags does only what its lowest bit says', () => {
  block.requestUnplug(1);
  select(1);
  setFlags(0x0c);
  expect(ejected()).toEqual([]);
  setFlags(0x0a);
  expect(ejected()).toEqual([]);
  setFlags(0x18);
  expect(ejected()).toEqual([1]);
});

test('handing the eject to firmware toggles bit 4 for a CPU whose removal was asked for, and eject clears it', () => {
  select(1);
  setFlags(0x10);
  expect(flags()).toBe(0x01);
  block.requestUnplug(1);
  setFlags(0x04);
  setFlags(0x10);
  expect(flags()).toBe(0x11);
  select(0);
  command(0);
  expect(data()).toBe(1);
  setFlags(0x08);
  expect(flags()).toBe(0);
});

test('_OST: the event is kept, the status reports both with the slot', () => {
  select(2);
  command(1);
  block.write(0, 8, 4, 0x103);
  expect(reports()).toEqual([]);
  command(2);
  block.write(0, 8, 4, 0x80);
  expect(reports()).toEqual([[2, 0x103, 0x80]]);
  expect(data()).toBe(0);
});

test('a command above 3 is ignored', () => {
  command(3);
  command(4);
  select(2);
  expect(data()).toBe(0x123);
});

test('while the selector is out of range reads are 0 and writes do nothing', () => {
  block.requestUnplug(1);
  command(3);
  select(4);
  setFlags(0x08);
  command(0);
  block.write(0, 8, 4, 1);
  expect([flags(), data(), data2()]).toEqual([0, 0, 0]);
  select(2);
  expect(data()).toBe(0x123);
});

test('reserved offsets read 0 and ignore writes', () => {
  block.requestUnplug(1);
  select(1);
  for (const offset of [1, 2, 3, 6, 7, 9, 10, 11]) {
    block.write(0, offset, 1, 0xff);
    expect(block.read(0, offset, 1)).toBe(0);
  }
  expect(flags()).toBe(0x05);
});

test('plug and requestUnplug refuse what cannot be', () => {
  expect(block.plug(0)).toBe(false);
  expect(block.plug(4)).toBe(false);
  expect(block.requestUnplug(2)).toBe(false);
  expect(block.requestUnplug(-1)).toBe(false);
  expect(levels()).toEqual([]);
});

test('a reset keeps slots and unseen events, and sets selector and command back', () => {
  block.plug(2);
  select(3);
  command(3);
  block.reset();
  expect(data()).toBe(0);
  expect(block.isEnabled(2)).toBe(true);
  expect(levels()).toEqual([true]);
});
