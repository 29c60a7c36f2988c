/** A schedule as a table: a column for each thread, a line for each access that another thread's accesses meet. */
import Table from 'cli-table3';
import { hex } from '../hex.ts';
import type { Memory } from './memory.ts';
import { isPlainStore, KIND, KIND_NAMES, type Operation, WAIT_RESULT } from './operation.ts';
import { isWrite, meet, type Row } from './replay.ts';
import { EXPIRE, FLUSH, letter, RUN } from './schedule.ts';

/** Column width in characters. */
const COLUMN = 46;
const NARROW_COLUMN = 34;

export function scheduleTable(rows: readonly Row[], threadNames: readonly string[], memory: Memory): string {
  const table = new Table({
    head: ['', ...threadNames.map((name, thread) => `${letter(thread)}: ${name}`)],
    colWidths: [6, ...threadNames.map(() => (threadNames.length > 2 ? NARROW_COLUMN : COLUMN))],
    wordWrap: true,
    style: { head: [], border: [], compact: true },
  });
  const shown = telling(rows);
  for (let i = 0; i < rows.length; ) {
    const row = rows[i] as Row;
    let text = rowText(row, memory);
    let count = 1;
    const follows = (): Row | undefined => (rows[i + count]?.thread === row.thread ? rows[i + count] : undefined);
    if (shown[i]) {
      for (let next = follows(); next && shown[i + count] && rowText(next, memory) === text; next = follows()) count++;
      if (count > 1) text += ` (${count} times)`;
    } else {
      while (follows() && !shown[i + count]) count++;
      text = `(${count === 1 ? 'an access' : `${count} accesses`} that nobody meets)`;
    }
    table.push([`${i + 1}`, ...threadNames.map((_, thread) => (thread === row.thread ? text : ''))]);
    i += count;
  }
  return table.toString();
}

/** Accesses to a word between which another thread's comes; and sleeping, waking and what buffers do. */
function telling(rows: readonly Row[]): boolean[] {
  const shown = rows.map(({ kind, operation }) => kind !== RUN || operation.kind >= KIND.WAIT);
  for (const [i, row] of rows.entries()) {
    for (let j = i - 1; j >= 0; j--) {
      const other = rows[j] as Row;
      if (!meet(row, other)) continue;
      if (other.thread !== row.thread) shown[i] = shown[j] = true;
      if (other.thread !== row.thread || isWrite(other)) break;
    }
  }
  return shown;
}

export function rowText(row: Row, memory: Memory): string {
  const { operation, before, after, given, line } = row;
  const name = wordsName(operation, memory);
  if (row.kind === FLUSH) return `(its buffer) ${name}: ${change(before, operation.a)}`;
  if (row.kind === EXPIRE) return `(its time limit is over) ${name}`;
  const what = `${line === '' ? '' : `${line} `}${KIND_NAMES[operation.kind]} ${name}`;
  if (isPlainStore(operation.kind))
    return row.isBuffered ? `${what} := ${show(operation.a)} (buffered)` : `${what}: ${change(before, after)}`;
  switch (operation.kind) {
    case KIND.LOAD:
    case KIND.ATOMIC_LOAD:
      return `${what} = ${show(given)}`;
    case KIND.WAIT:
      return given === WAIT_RESULT.NOT_EQUAL ? `${what}: is ${show(before)}, goes on` : `${what}: sleeps`;
    case KIND.FENCE:
      return `${what}: empties its buffer`;
    case KIND.NOTIFY:
      return `${what}: wakes ${given}`;
    default:
      return `${what}: ${change(before, after)}`;
  }
}

function wordsName({ kind, word, b }: Operation, memory: Memory): string {
  return kind === KIND.FILL && b > word + 1 ? `${memory.name(word)} to ${memory.name(b - 1)}` : memory.name(word);
}

const change = (before: number, after: number): string =>
  before === after ? `stays ${show(before)}` : `${show(before)} -> ${show(after)}`;

const show = (value: number): string => (value >= -9 && value <= 9 ? `${value}` : hex(value >>> 0));
