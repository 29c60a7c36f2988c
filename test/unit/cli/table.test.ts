/** Tables: 80 columns at most, whatever is in them. */
import { expect, it } from 'vitest';
import { table, wrapped } from '../../../src/cli/table.ts';

const widest = (text: string): number => Math.max(...text.split('\n').map((line) => line.length));

it('a small table is as wide as its contents', () => {
  expect(table(['a', 'bc'], [['1', '2']]).split('\n')[0]).toBe('┌───┬────┐');
});

it('a wide one fits the screen, and nothing of it is lost', () => {
  const long = Array.from({ length: 40 }, (_, i) => `word${i}`);
  const text = table(['one', 'two', 'three'], [['x', long.slice(0, 20).join(' '), long.slice(20).join(' ')]]);
  expect(widest(text)).toBeLessThanOrEqual(80);
  for (const word of long) expect(text).toContain(word);
});

it('text is broken at blanks, later lines indented', () => {
  const text = wrapped('word '.repeat(40).trim(), '  ');
  expect(widest(text)).toBeLessThanOrEqual(80);
  expect(text.split('\n')[1]).toMatch(/^ {2}word/);
});
