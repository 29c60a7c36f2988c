/** Tables for people: as wide as their contents, at most 80 columns, longer cells on several lines. */
import { stripVTControlCharacters } from 'node:util';
import Table from 'cli-table3';

/** What every terminal shows. */
const SCREEN_COLUMNS = 80;
/** A border and a blank on each side of a cell. */
const FRAME = 3;

const longest = (cell: string, pieces: string | RegExp): number =>
  Math.max(
    ...stripVTControlCharacters(cell)
      .split(pieces)
      .map((piece) => piece.length),
  );

/** @param rows cells; a line break in one is kept */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widest = (column: number, pieces: string | RegExp): number =>
    Math.max(...[head, ...rows].map((row) => longest(row[column] ?? '', pieces)));
  const widths = head.map((_, column) => widest(column, '\n'));
  const words = head.map((_, column) => widest(column, /\s/)); // a word is not broken
  const room = SCREEN_COLUMNS - 1 - FRAME * head.length;
  for (let over = sum(widths) - room; over > 0; over--) {
    const spare = widths.map((width, column) => (width > (words[column] ?? 0) ? width : 0));
    const column = spare.indexOf(Math.max(...spare));
    if (spare[column] === 0) break;
    widths[column] = (widths[column] ?? 0) - 1;
  }
  const made = new Table({
    head: [...head],
    style: { head: [], border: [], compact: true },
    colWidths: widths.map((width) => width + FRAME - 1),
    wordWrap: true,
  });
  for (const row of rows) made.push([...row]);
  return made.toString();
}

const sum = (list: readonly number[]): number => list.reduce((total, each) => total + each, 0);

/** Running text, broken at blanks to fit; later lines start with `indent`. */
export function wrapped(text: string, indent = ''): string {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    const longer = line === '' ? word : `${line} ${word}`;
    if (line !== '' && longer.length > SCREEN_COLUMNS - 1) {
      lines.push(line);
      line = `${indent}${word}`;
    } else {
      line = longer;
    }
  }
  return [...lines, line].join('\n');
}
