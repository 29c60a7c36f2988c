import { expect, test } from 'vitest';
import { textScreen } from '../../../src/devices/text-screen.ts';

function page(...lines: [row: number, column: number, bytes: readonly number[]][]): Uint8Array {
  const ram = new Uint8Array(0x100000);
  for (const [row, column, bytes] of lines) {
    bytes.forEach((byte, index) => {
      ram[0xb8000 + (row * 80 + column + index) * 2] = byte;
      ram[0xb8000 + (row * 80 + column + index) * 2 + 1] = 0x07;
    });
  }
  return ram;
}
const ascii = (text: string): number[] => [...Buffer.from(text)];

test('a page that was never written, or only cleared, is no text', () => {
  expect(textScreen(page())).toBe('');
  expect(textScreen(page([0, 0, ascii(' '.repeat(2000))]))).toBe('');
});

test('rows end at their last character, and the page at its last row; columns and rows in between are kept', () => {
  expect(textScreen(page([0, 2, ascii('hello')], [2, 0, ascii('x   ')]))).toBe('  hello\n\nx');
});

test('the last cell is the 2,000th: what lies behind the page is not shown', () => {
  const ram = page([24, 79, ascii('Z')]);
  ram[0xb8000 + 4000] = 0x41;
  expect(textScreen(ram)).toBe(`${'\n'.repeat(24)}${' '.repeat(79)}Z`);
});

test('the picture begins at the start address, and goes on at 0xb8000 behind the 32 KiB', () => {
  const ram = page([0, 0, ascii('first')], [25, 0, ascii('second')]);
  expect(textScreen(ram, 2000)).toBe('second');
  ram.fill(0, 0xb8000 + 2000);
  ram[0xc0000] = 0x58; // behind the window
  ram[0xbfffe] = 0x59;
  expect(textScreen(ram, 0x3fff)).toBe('Yfirst');
  expect(textScreen(ram, 0xffff)).toBe('Yfirst');
});

test('characters are code page 437, each of the 256 one that a terminal only shows', () => {
  expect(textScreen(page([0, 0, [0xc9, 0xcd, 0xbb, 0x01, 0x80, 0xe1, 0xfe]]))).toBe('╔═╗☺Çß■');
  const all = textScreen(page([0, 0, Array.from({ length: 256 }, (_, code) => code)]));
  const characters = [...all.replaceAll('\n', '')];
  expect(characters.filter((character) => character < ' ' || character === '\x7f')).toEqual([]);
  expect([0x01, 0x1f, 0x41, 0x7f, 0x80, 0xb0, 0xdb, 0xfe].map((code) => characters[code]).join('')).toBe('☺▼A⌂Ç░█■');
});
