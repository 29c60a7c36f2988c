/** Tables for people: as wide as their contents, at most 80 columns, longer cells on several lines. */
import { stripVTControlCharacters } from 'node:util';
import Table from 'cli-table3';

/** What every terminal shows. */
const SCREEN_COLUMNS = 80;
/** A border and a blank on each side of a cell. */
const FRAME = 3;
/** No column is made narrower than this for another's sake. */
const LEAST = 8;

const widthOf = (cell: string): number =>
  Math.max(...cell.split('\n').map((line) => stripVTControlCharacters(line).length));

/** @param rows cells; a line break in one is kept */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((_, column) => Math.max(...[head, ...rows].map((row) => widthOf(row[column] ?? ''))));
  const room = SCREEN_COLUMNS - 1 - FRAME * head.length;
  for (let over = sum(widths) - room; over > 0; over = sum(widths) - room) {
    const widest = widths.indexOf(Math.max(...widths));
    const rest = widths.toSorted((a, b) => b - a)[1] ?? 0;
    const less = Math.max(LEAST, rest, (widths[widest] ?? 0) - over);
    const next = less < (widths[widest] ?? 0) ? less : (widths[widest] ?? 0) - 1;
    if (next < LEAST) break;
    widths[widest] = next;
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
