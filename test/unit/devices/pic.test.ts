import { beforeEach, expect, test } from 'vitest';
import { Pic } from '../../../src/devices/pic.ts';
import { TestBoard } from './board.ts';

// Ranges: 0 master (0x20), 1 slave (0xa0), 2 ELCR (0x4d0). Command words by the 8259A data sheet.
const [MASTER, SLAVE, ELCR] = [0, 1, 2];
const EOI = 0x20;
const READ_IRR = 0x0a;
const READ_ISR = 0x0b;

let board: TestBoard;
let pic: Pic;

const output = (): boolean[] => board.events('pic-interrupt').map(({ level }) => level);
const command = (chip: number, value: number): void => pic.write(chip, 0, 1, value);
const data = (chip: number, value: number): void => pic.write(chip, 1, 1, value);

function irr(chip: number): number {
  command(chip, READ_IRR);
  return pic.read(chip, 0);
}

function isr(chip: number): number {
  command(chip, READ_ISR);
  return pic.read(chip, 0);
}

function initialize(icw4 = 0x01): void {
  for (const [chip, base] of [
    [MASTER, 0x20],
    [SLAVE, 0x28],
  ] as const) {
    command(chip, 0x11);
    data(chip, base);
    data(chip, chip === MASTER ? 0x04 : 0x02);
    data(chip, icw4);
  }
}

function pulse(irq: number): void {
  pic.setLine(irq, true);
  pic.setLine(irq, false);
}

beforeEach(() => {
  board = new TestBoard();
  pic = new Pic(board);
  initialize();
});

test('an edge raises INT; the acknowledge gives base + input and lowers it; EOI ends the service', () => {
  pulse(4);
  expect(output()).toEqual([true]);
  expect(pic.acknowledge()).toBe(0x24);
  expect(output()).toEqual([true, false]);
  expect([irr(MASTER), isr(MASTER)]).toEqual([0, 0x10]);
  command(MASTER, EOI);
  expect(isr(MASTER)).toBe(0);
});

test('an edge-triggered line that stays high interrupts once', () => {
  pic.setLine(4, true);
  pic.acknowledge();
  command(MASTER, EOI);
  pic.setLine(4, true);
  expect(pic.output).toBe(false);
});

test('a masked input is latched and interrupts when it is unmasked', () => {
  data(MASTER, 0x10);
  pulse(4);
  expect(pic.output).toBe(false);
  expect(irr(MASTER)).toBe(0x10);
  data(MASTER, 0x00);
  expect(pic.output).toBe(true);
  expect(pic.read(MASTER, 1)).toBe(0);
});

test('fully nested: a lower or equal input waits for the EOI, a higher one does not', () => {
  pulse(4);
  pic.acknowledge();
  pulse(5);
  pulse(4);
  expect(pic.output).toBe(false);
  pulse(3);
  expect(pic.output).toBe(true);
  expect(pic.acknowledge()).toBe(0x23);
  command(MASTER, EOI); // ends 3
  expect(isr(MASTER)).toBe(0x10);
  command(MASTER, EOI);
  expect(pic.acknowledge()).toBe(0x24);
});

test('a slave input comes through input 2, with the slave vector, and needs both EOIs', () => {
  pulse(8);
  expect(irr(MASTER)).toBe(0x04);
  expect(pic.acknowledge()).toBe(0x28);
  expect([isr(MASTER), isr(SLAVE)]).toEqual([0x04, 0x01]);
  pulse(9);
  command(SLAVE, EOI);
  expect(pic.output).toBe(false);
  command(MASTER, EOI);
  expect(pic.output).toBe(true);
  expect(pic.acknowledge()).toBe(0x29);
});

test('masking the cascade input keeps the slave away', () => {
  data(MASTER, 0x04);
  pulse(12);
  expect(pic.output).toBe(false);
  data(MASTER, 0);
  expect(pic.acknowledge()).toBe(0x2c);
});

test('special fully nested mode: a higher slave input interrupts while one is in service', () => {
  initialize(0x11);
  pulse(12);
  pic.acknowledge();
  pulse(9);
  expect(pic.output).toBe(true);
  expect(pic.acknowledge()).toBe(0x29);
});

test('an acknowledge without a request is spurious: input 7, and of the slave when it had one but lost it', () => {
  expect(pic.acknowledge()).toBe(0x27);
  expect(isr(MASTER)).toBe(0);
});

test('a level-triggered input (ELCR) requests while it is high, and is withdrawn when it falls', () => {
  pic.write(ELCR, 0, 1, 0x20);
  pic.setLine(5, true);
  expect(pic.acknowledge()).toBe(0x25);
  command(MASTER, EOI);
  expect(pic.output).toBe(true);
  pic.setLine(5, false);
  expect(pic.output).toBe(false);
});

test('ELCR: timer, keyboard, cascade, RTC and FPU inputs are edge-triggered always', () => {
  pic.write(ELCR, 0, 1, 0xff);
  pic.write(ELCR, 1, 1, 0xff);
  expect([pic.read(ELCR, 0), pic.read(ELCR, 1)]).toEqual([0xf8, 0xde]);
});

test('auto EOI leaves nothing in service', () => {
  initialize(0x03);
  pulse(4);
  pulse(4);
  expect(pic.acknowledge()).toBe(0x24);
  expect(isr(MASTER)).toBe(0);
});

test('rotation on EOI gives the served input the lowest priority', () => {
  pulse(4);
  pic.acknowledge();
  command(MASTER, 0xa0);
  pulse(4);
  pulse(5);
  expect(pic.acknowledge()).toBe(0x25);
});

test('set priority and rotation on specific EOI name the lowest input', () => {
  command(MASTER, 0xc0 | 3);
  pulse(3);
  pulse(4);
  expect(pic.acknowledge()).toBe(0x24);
  command(MASTER, 0xe0 | 4);
  pulse(5);
  expect(pic.acknowledge()).toBe(0x25);
});

test('rotation in auto EOI mode follows the acknowledge', () => {
  initialize(0x03);
  command(MASTER, 0x80);
  pulse(4);
  pic.acknowledge();
  pulse(4);
  pulse(6);
  expect(pic.acknowledge()).toBe(0x26);
  command(MASTER, 0x00);
});

test('specific EOI ends the named input only', () => {
  pulse(5);
  pic.acknowledge();
  pulse(3);
  pic.acknowledge();
  command(MASTER, 0x60 | 5);
  expect(isr(MASTER)).toBe(0x08);
});

test('special mask mode: a masked input in service does not block lower ones', () => {
  pulse(3);
  pic.acknowledge();
  pulse(6);
  expect(pic.output).toBe(false);
  data(MASTER, 0x08);
  command(MASTER, 0x68);
  expect(pic.output).toBe(true);
  command(MASTER, 0x48);
  expect(pic.output).toBe(false);
});

test('poll: the next read acknowledges and answers bit 7 with the input, or 0', () => {
  pulse(6);
  command(MASTER, 0x0c);
  expect(pic.read(MASTER, 0)).toBe(0x86);
  expect(output()).toEqual([true, false]);
  expect(isr(MASTER)).toBe(0x40);
  command(MASTER, 0x0c);
  expect(pic.read(MASTER, 0)).toBe(0);
});

test('ICW1 forgets latched edges, mask and service; level inputs that are high stay', () => {
  pic.write(ELCR, 0, 1, 0x20);
  pic.setLine(5, true);
  pulse(3);
  pic.acknowledge();
  pulse(4);
  data(MASTER, 0xff);
  command(MASTER, 0x11);
  expect([irr(MASTER), isr(MASTER)]).toEqual([0x20, 0]);
});

test('without ICW4 asked for, the byte after ICW3 is the mask', () => {
  command(MASTER, 0x10);
  data(MASTER, 0x40);
  data(MASTER, 0x04);
  data(MASTER, 0xfb);
  expect(pic.read(MASTER, 1)).toBe(0xfb);
});

test('setLine ignores the cascade input and inputs that are not there', () => {
  for (const irq of [-1, 2, 16]) pic.setLine(irq, true);
  expect(output()).toEqual([]);
});

test('reset lowers INT and clears ELCR', () => {
  pic.write(ELCR, 0, 1, 0x20);
  pulse(4);
  pic.reset();
  expect(output()).toEqual([true, false]);
  expect(pic.read(ELCR, 0)).toBe(0);
});

test('single mode (ICW1 bit 1) has no ICW3: with ICW4 asked for, the second data byte is ICW4 and the third the mask', () => {
  command(MASTER, 0x13);
  data(MASTER, 0x20);
  data(MASTER, 0x03); // automatic EOI
  data(MASTER, 0xef);
  expect(pic.read(MASTER, 1)).toBe(0xef);
  pulse(4);
  expect(pic.acknowledge()).toBe(0x24);
  expect(isr(MASTER)).toBe(0);
});

test('single mode without ICW4: the second data byte is the mask', () => {
  command(MASTER, 0x12);
  data(MASTER, 0x20);
  data(MASTER, 0xfe);
  expect(pic.read(MASTER, 1)).toBe(0xfe);
});
