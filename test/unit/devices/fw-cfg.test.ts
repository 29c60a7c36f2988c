import { beforeEach, expect, test } from 'vitest';
import { FW_CFG, FwCfg } from '../../../src/devices/fw-cfg.ts';
import { TestBoard } from './board.ts';

// Ranges: 0 selector and data (0x510), 1 DMA address (0x514). Layouts by QEMU's docs/specs/fw_cfg.rst.
let ram: Uint8Array<ArrayBuffer>;
let device: FwCfg;

beforeEach(() => {
  ram = new Uint8Array(0x10000).fill(0xee);
  const board = new TestBoard();
  board.memory = ram;
  device = new FwCfg(board);
});

const text = (value: string): Uint8Array => new TextEncoder().encode(value);
const select = (key: number): void => device.write(0, 0, 2, key);
const bytes = (count: number): number[] => Array.from({ length: count }, () => device.read(0, 1, 1));
const string = (values: Iterable<number>): string => String.fromCharCode(...values);

function item(key: number, count: number): number[] {
  select(key);
  return bytes(count);
}

/** Writes an access structure at 0x100 and triggers it. @returns the control field afterwards */
function dma(control: number, length: number, address: number, at = 0x100): number {
  const view = new DataView(ram.buffer);
  view.setUint32(0x100, control);
  view.setUint32(0x104, length);
  view.setUint32(0x108, Math.floor(address / 2 ** 32));
  view.setUint32(0x10c, address % 2 ** 32);
  const bigEndian = (value: number): number => {
    const swap = new DataView(new ArrayBuffer(4));
    swap.setUint32(0, value);
    return swap.getUint32(0, true);
  };
  device.write(1, 0, 4, bigEndian(Math.floor(at / 2 ** 32)));
  device.write(1, 4, 4, bigEndian(at % 2 ** 32));
  return view.getUint32(0x100);
}

test('item 0 is the signature, also right after power-up; item 1 offers port and DMA', () => {
  expect(string(bytes(4))).toBe('QEMU');
  expect(string(item(0, 4))).toBe('QEMU');
  expect(item(1, 5)).toEqual([3, 0, 0, 0, 0]);
});

test('numbers are little-endian', () => {
  device.setNumber(FW_CFG.CPU_COUNT, 300, 2);
  device.setNumber(FW_CFG.RAM_SIZE, 5 * 2 ** 32 + 1, 8);
  expect(item(0x05, 2)).toEqual([0x2c, 0x01]);
  expect(item(0x03, 8)).toEqual([1, 0, 0, 0, 5, 0, 0, 0]);
});

test('reading past the end, and an item that is not there, give zeros', () => {
  device.set(FW_CFG.KERNEL_COMMAND_LINE, text('ab'));
  expect(item(0x09, 4)).toEqual([0x61, 0x62, 0, 0]);
  expect(item(0x7fff, 2)).toEqual([0, 0]);
});

test('selecting rewinds; the write-mode bit 14 is ignored', () => {
  device.set(0x8003, text('xyz'));
  expect(string(item(0x8003, 2))).toBe('xy');
  expect(string(item(0xc003, 3))).toBe('xyz');
});

test('writes to the data port and narrow writes to the selector are ignored', () => {
  select(0);
  device.write(0, 1, 1, 0xff);
  device.write(0, 0, 1, 0x05);
  expect(string(bytes(4))).toBe('QEMU');
});

test('files are listed big-endian, from key 0x20 on', () => {
  expect(device.addFile('opt/org.apiary/test', text('hello'))).toBe(0x20);
  expect(device.addFile('etc/system-states', new Uint8Array(6))).toBe(0x21);
  const directory = item(0x19, 4 + 128);
  expect(directory.slice(0, 4)).toEqual([0, 0, 0, 2]);
  expect(directory.slice(4, 12)).toEqual([0, 0, 0, 5, 0, 0x20, 0, 0]);
  expect(string(directory.slice(12, 32))).toBe('opt/org.apiary/test\0');
  expect(directory.slice(68, 76)).toEqual([0, 0, 0, 6, 0, 0x21, 0, 0]);
  expect(string(item(0x20, 5))).toBe('hello');
});

test.each(['', 'x'.repeat(56), 'sp ace', 'ümlaut', 'taken'])('file name %j is refused', (name) => {
  device.addFile('taken', new Uint8Array(1));
  expect(() => device.addFile(name, new Uint8Array(1))).toThrow(RangeError);
});

test('the DMA register reads "QEMU CFG"', () => {
  const read = [device.read(1, 0, 4), device.read(1, 4, 4)];
  expect(read).toEqual([0x554d4551, 0x47464320]);
  expect(device.read(1, 6, 1)).toBe(0x46);
});

test('DMA select and read copies the item and clears the control field', () => {
  device.set(FW_CFG.KERNEL_DATA, text('kernel'));
  expect(dma((0x11 << 16) | 0x0a, 8, 0x200)).toBe(0);
  expect([...ram.subarray(0x200, 0x209)]).toEqual([...text('kernel'), 0, 0, 0xee]);
});

test('DMA reads go on where the last one ended, and skip moves on', () => {
  device.set(FW_CFG.KERNEL_DATA, text('abcdefgh'));
  dma((0x11 << 16) | 0x0a, 2, 0x200);
  expect(dma(0x04, 2, 0)).toBe(0);
  expect(dma(0x02, 2, 0x202)).toBe(0);
  expect(string(ram.subarray(0x200, 0x204))).toBe('abef');
  expect(string(bytes(2))).toBe('gh');
});

test('skipping past the end is the end', () => {
  device.set(FW_CFG.KERNEL_DATA, text('ab'));
  dma((0x11 << 16) | 0x0c, 0xffffffff, 0);
  expect(bytes(1)).toEqual([0]);
});

test('a DMA write ends with the error bit: items are read-only', () => {
  expect(dma(0x10, 4, 0x200)).toBe(1);
});

test('a DMA target outside guest memory ends with the error bit and copies nothing', () => {
  expect(dma(0x0a, 4, 0xfffe)).toBe(1);
  expect(dma(0x0a, 4, 2 ** 40)).toBe(1);
  expect([...ram.subarray(0xfffe)]).toEqual([0xee, 0xee]);
});

test('an access structure outside guest memory does nothing; the address register starts from 0 again', () => {
  dma(0x0a, 4, 0x200, 2 ** 33);
  expect(ram[0x200]).toBe(0xee);
  expect(dma(0x0a, 4, 0x200)).toBe(0);
  expect(string(ram.subarray(0x200, 0x204))).toBe('QEMU');
});

test('a zero-length read succeeds', () => {
  expect(dma(0x0a, 0, 2 ** 40)).toBe(0);
});

test('a DMA write of no bytes has nothing to refuse', () => {
  expect(dma(0x10, 0, 0x200)).toBe(0);
  expect(dma(0x10, 1, 0x200)).toBe(1);
});

test('an access structure that is half outside RAM ends with the error bit, as far as that can be written', () => {
  const view = new DataView(ram.buffer);
  dma(0x0a, 4, 0x200, ram.length - 8);
  expect(view.getUint32(ram.length - 8)).toBe(1);
  expect(dma(0x0a, 4, 0x200, ram.length - 2)).toBe(0x0a); // the structure at 0x100, which nobody asked for
});
