import { beforeEach, expect, test } from 'vitest';
import { IoApic } from '../../../src/devices/ioapic.ts';
import { TestBoard } from './board.ts';

let board: TestBoard;
let ioapic: IoApic;

beforeEach(() => {
  board = new TestBoard();
  ioapic = new IoApic(board);
});

function readRegister(index: number): number {
  ioapic.write(0, 0x00, 4, index);
  return ioapic.read(0, 0x10, 4);
}

function writeRegister(index: number, value: number): void {
  ioapic.write(0, 0x00, 4, index);
  ioapic.write(0, 0x10, 4, value >>> 0);
}

const LEVEL = 0x8000;
const MASKED = 0x10000;
const REMOTE_IRR = 0x4000;
const setEntry = (pin: number, low: number, high = 0): void => {
  writeRegister(0x11 + 2 * pin, high);
  writeRegister(0x10 + 2 * pin, low);
};
const low = (pin: number): number => readRegister(0x10 + 2 * pin);
/** What left the I/O APIC; the command's bits are those of the ICR. */
const delivered = () =>
  board.messages.map(({ destination, command }) => ({
    destination,
    logical: ((command >> 11) & 1) === 1,
    deliveryMode: (command >> 8) & 7,
    vector: command & 0xff,
    levelTriggered: ((command >> 15) & 1) === 1,
  }));
const vectors = (): number[] => delivered().map(({ vector }) => vector);

test('version: 24 entries, 0x20; read-only', () => {
  writeRegister(0x01, 0);
  expect(readRegister(0x01)).toBe(0x170020);
});

test('ID: bits 27:24 only; the arbitration ID follows it and is read-only', () => {
  writeRegister(0x00, 0xffffffff);
  expect(readRegister(0x00)).toBe(0x0f000000);
  writeRegister(0x02, 0);
  expect(readRegister(0x02)).toBe(0x0f000000);
});

test('after reset all entries are masked and otherwise 0', () => {
  for (let pin = 0; pin < 24; pin++) {
    expect([low(pin), readRegister(0x11 + 2 * pin)]).toEqual([MASKED, 0]);
  }
});

test('register select has 8 bits and reads back', () => {
  ioapic.write(0, 0x00, 4, 0x1234);
  expect(ioapic.read(0, 0x00, 4)).toBe(0x34);
});

test.each([0x03, 0x0f, 0x40, 0xff])('index 0x%x is no register: reads all ones, ignores writes', (index) => {
  writeRegister(index, 0);
  expect(readRegister(index)).toBe(0xffffffff);
});

test.each([0x01, 0x04, 0x14, 0x20, 0x40])('offset 0x%x does not decode (no EOI register in version 0x11)', (offset) => {
  setEntry(4, 0x44 | LEVEL);
  ioapic.setLine(4, 0, true);
  ioapic.write(0, offset, 4, 0x44);
  expect(ioapic.read(0, offset, 4)).toBe(0);
  expect(low(4)).toBe(0x44 | LEVEL | REMOTE_IRR);
});

test('byte and word reads of the window answer its low bytes', () => {
  ioapic.write(0, 0x00, 1, 1);
  expect([ioapic.read(0, 0x10, 1), ioapic.read(0, 0x10, 2)]).toEqual([0x20, 0x0020]);
});

test('delivery status and remote IRR ignore writes', () => {
  setEntry(3, 0x33 | LEVEL | MASKED | REMOTE_IRR | 0x1000);
  expect(low(3)).toBe(0x33 | LEVEL | MASKED);
});

test('an edge is delivered once, with what the entry says', () => {
  setEntry(7, 0x0871, 0x0d000000);
  ioapic.setLine(7, 0, true);
  ioapic.setLine(7, 0, false);
  expect(delivered()).toEqual([
    { destination: 0x0d, logical: true, deliveryMode: 0, vector: 0x71, levelTriggered: false },
  ]);
});

test('an edge while the line is already high is coalesced', () => {
  setEntry(7, 0x71);
  expect(ioapic.setLine(7, 0, true)).toBe(1);
  expect(ioapic.setLine(7, 0, true)).toBe(0);
  expect(vectors()).toEqual([0x71]);
});

test('an edge while masked is latched but never delivered; the next edge is', () => {
  setEntry(7, 0x71 | MASKED);
  expect(ioapic.setLine(7, 0, true)).toBe(-1);
  setEntry(7, 0x71);
  expect(vectors()).toEqual([]);
  expect(ioapic.setLine(7, 0, true)).toBe(0);
  ioapic.setLine(7, 0, false);
  ioapic.setLine(7, 0, true);
  expect(vectors()).toEqual([0x71]);
});

test('a level interrupt sets remote IRR and waits for the EOI of its vector', () => {
  setEntry(5, 0x55 | LEVEL);
  ioapic.setLine(5, 0, true);
  expect(low(5)).toBe(0x55 | LEVEL | REMOTE_IRR);
  expect(delivered()[0]?.levelTriggered).toBe(true);
  expect(ioapic.setLine(5, 0, true)).toBe(-1);
  ioapic.setLine(5, 0, false);
  ioapic.setLine(5, 0, true);
  ioapic.eoi(0x56);
  expect(vectors()).toEqual([0x55]);
  ioapic.eoi(0x55);
  expect(vectors()).toEqual([0x55, 0x55]);
});

test('EOI with the line low clears remote IRR and delivers nothing', () => {
  setEntry(5, 0x55 | LEVEL);
  ioapic.setLine(5, 0, true);
  ioapic.setLine(5, 0, false);
  ioapic.eoi(0x55);
  expect(low(5)).toBe(0x55 | LEVEL);
  expect(vectors()).toEqual([0x55]);
});

test('EOI clears remote IRR of every entry with that vector', () => {
  for (const pin of [5, 9]) {
    setEntry(pin, 0x55 | LEVEL);
    ioapic.setLine(pin, 0, true);
    ioapic.setLine(pin, 0, false);
  }
  ioapic.eoi(0x55);
  expect([low(5), low(9)]).toEqual([0x55 | LEVEL, 0x55 | LEVEL]);
});

test('EOI of a masked entry clears remote IRR; unmasking delivers while the line is high', () => {
  setEntry(5, 0x55 | LEVEL);
  ioapic.setLine(5, 0, true);
  setEntry(5, 0x55 | LEVEL | MASKED);
  ioapic.eoi(0x55);
  expect(vectors()).toEqual([0x55]);
  setEntry(5, 0x55 | LEVEL);
  expect(vectors()).toEqual([0x55, 0x55]);
});

test('a level line that rises while masked is delivered at unmasking, and not if it fell before', () => {
  setEntry(5, 0x55 | LEVEL | MASKED);
  ioapic.setLine(5, 0, true);
  ioapic.setLine(5, 0, false);
  setEntry(5, 0x55 | LEVEL);
  expect(vectors()).toEqual([]);
  setEntry(5, 0x55 | LEVEL | MASKED);
  ioapic.setLine(5, 0, true);
  setEntry(5, 0x55 | LEVEL);
  expect(vectors()).toEqual([0x55]);
});

test('making an entry edge-triggered clears remote IRR, as Linux and Xen rely on', () => {
  setEntry(5, 0x55 | LEVEL);
  ioapic.setLine(5, 0, true);
  setEntry(5, 0x55 | MASKED);
  expect(low(5)).toBe(0x55 | MASKED);
  setEntry(5, 0x55 | LEVEL);
  expect(vectors()).toEqual([0x55, 0x55]);
});

test('changing the destination while remote IRR is set keeps remote IRR and delivers nothing', () => {
  setEntry(5, 0x55 | LEVEL, 0x01000000);
  ioapic.setLine(5, 0, true);
  writeRegister(0x11 + 2 * 5, 0x02000000);
  expect(vectors()).toEqual([0x55]);
  ioapic.eoi(0x55);
  expect(delivered().map((interrupt) => interrupt.destination)).toEqual([1, 2]);
});

test('remote IRR is set if nobody matched (-1), and not if the interrupt was coalesced (0)', () => {
  board.takers = -1;
  setEntry(5, 0x55 | LEVEL);
  ioapic.setLine(5, 0, true);
  expect(low(5) & REMOTE_IRR).toBe(REMOTE_IRR);
  board.takers = 0;
  setEntry(6, 0x66 | LEVEL);
  ioapic.setLine(6, 0, true);
  expect(low(6) & REMOTE_IRR).toBe(0);
});

test('sources wired to one pin are ORed', () => {
  const first = ioapic.connect(9);
  const second = ioapic.connect(9);
  setEntry(9, 0x99 | LEVEL);
  first(true);
  second(true);
  first(false);
  ioapic.eoi(0x99);
  expect(vectors()).toEqual([0x99, 0x99]);
  second(false);
  ioapic.eoi(0x99);
  expect(vectors()).toEqual([0x99, 0x99]);
});

test('connect refuses a pin that is not there; setLine ignores it', () => {
  expect(() => ioapic.connect(24)).toThrow(RangeError);
  expect(ioapic.setLine(24, 0, true)).toBe(-1);
});

test('all delivery modes pass through', () => {
  for (let mode = 0; mode < 8; mode++) {
    setEntry(mode, (mode << 8) | 0x40);
    ioapic.setLine(mode, 0, true);
  }
  expect(delivered().map((interrupt) => interrupt.deliveryMode)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
});

test('the 10,000th EOI in a row with the line high is held for 10 ms', () => {
  setEntry(5, 0x55 | LEVEL);
  ioapic.setLine(5, 0, true);
  board.nanos = 1000;
  for (let i = 0; i < 9999; i++) ioapic.eoi(0x55);
  expect(delivered()).toHaveLength(10_000);
  expect(ioapic.deadlineNanos()).toBe(Number.POSITIVE_INFINITY);
  ioapic.eoi(0x55);
  expect(delivered()).toHaveLength(10_000);
  expect(ioapic.deadlineNanos()).toBe(10_001_000);
  ioapic.advance(10_000_999);
  expect(delivered()).toHaveLength(10_000);
  ioapic.advance(10_001_000);
  expect(delivered()).toHaveLength(10_001);
  expect(ioapic.deadlineNanos()).toBe(Number.POSITIVE_INFINITY);
});

test('an EOI with the line low starts the count of successive interrupts anew', () => {
  setEntry(5, 0x55 | LEVEL);
  ioapic.setLine(5, 0, true);
  for (let i = 0; i < 9999; i++) ioapic.eoi(0x55);
  ioapic.setLine(5, 0, false);
  ioapic.eoi(0x55);
  ioapic.setLine(5, 0, true);
  ioapic.eoi(0x55);
  expect(ioapic.deadlineNanos()).toBe(Number.POSITIVE_INFINITY);
});

test('destination bits 14:8 come from entry bits 55:49, only with extendedDestination', () => {
  setEntry(4, 0x44, 0x23020000);
  expect(ioapic.entry(4).destination).toBe(0x23);
  ioapic = new IoApic(board, { extendedDestination: true });
  setEntry(4, 0x44, 0x23020000);
  expect(ioapic.entry(4).destination).toBe(0x123);
});

test('entries lists every pin, and a rewritten one is reported', () => {
  setEntry(6, 0x66 | LEVEL);
  expect(board.events('redirection')).toHaveLength(2);
  ioapic.setLine(6, 0, true);
  expect(ioapic.entries()).toHaveLength(24);
  expect(ioapic.entries()[6]).toMatchObject({ pin: 6, command: 0xc066, masked: false, remoteIrr: true, pending: true });
});

test('reset masks everything; a level line that is still high interrupts once its entry allows it', () => {
  setEntry(6, 0x66 | LEVEL | MASKED);
  ioapic.setLine(6, 0, true);
  setEntry(7, 0x77 | LEVEL | MASKED);
  ioapic.setLine(7, 0, true);
  ioapic.setLine(7, 0, false);
  ioapic.reset();
  expect(low(6)).toBe(MASKED);
  setEntry(6, 0x66 | LEVEL);
  setEntry(7, 0x77 | LEVEL);
  expect(vectors()).toEqual([0x66]);
});

// Any EOI of the vector made an edge entry whose line was high deliver again: 1,002 interrupts for one edge.
test('an EOI concerns level entries only: one edge whose line stays high is delivered once', () => {
  setEntry(6, 0x46);
  ioapic.setLine(6, 0, true);
  for (let i = 0; i < 5; i++) ioapic.eoi(0x46);
  expect(vectors()).toEqual([0x46]);
});

test('a level entry in service that is made edge while its line is high is not delivered again at the EOI', () => {
  setEntry(5, 0x46 | LEVEL);
  ioapic.setLine(5, 0, true);
  setEntry(5, 0x46);
  ioapic.eoi(0x46);
  expect(delivered().map(({ levelTriggered }) => levelTriggered)).toEqual([true]);
});

// The local APICs offer EOI-broadcast suppression, and a version below 0x20 has no register to make up for it.
test('the EOI register at 0x40 ends the level interrupt of the vector written to it, and reads 0', () => {
  setEntry(5, 0x46 | LEVEL);
  setEntry(6, 0x47 | LEVEL);
  ioapic.setLine(5, 0, true);
  ioapic.setLine(6, 0, true);
  ioapic.setLine(5, 0, false);
  ioapic.write(0, 0x40, 4, 0x46);
  expect([low(5) & REMOTE_IRR, low(6) & REMOTE_IRR]).toEqual([0, REMOTE_IRR]);
  ioapic.write(0, 0x40, 4, 0x47);
  expect(vectors()).toEqual([0x46, 0x47, 0x47]);
  expect(ioapic.read(0, 0x40, 4)).toBe(0);
});

test('reset clears the high words of all entries, the ID and the select register', () => {
  for (let pin = 0; pin < 24; pin++) setEntry(pin, MASKED, 0xfffe0000);
  writeRegister(0, 0x0f000000);
  ioapic.reset();
  expect(ioapic.read(0, 0x00, 4)).toBe(0);
  expect(readRegister(0)).toBe(0);
  for (let pin = 0; pin < 24; pin++) expect(readRegister(0x11 + 2 * pin)).toBe(0);
});

test('an entry tells the message that it sends: vector, mode, logical and level as in the ICR, and the destination', () => {
  setEntry(8, 0x0000a9f1 | REMOTE_IRR, 0x5a000000);
  expect(ioapic.entry(8)).toMatchObject({ destination: 0x5a, command: 0xc9f1, levelTriggered: true, masked: false });
  setEntry(8, 0x000000f1 | MASKED);
  expect(ioapic.entry(8)).toMatchObject({ destination: 0, command: 0x40f1, levelTriggered: false, masked: true });
});
