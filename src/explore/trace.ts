/**
 * A schedule for ui.perfetto.dev: a track for each thread, a microsecond for each step, an arrow from each write to the
 * other thread's access that meets it. Format: "Trace Event Format" (X, s, f, M).
 */
import type { Memory } from './memory.ts';
import { KIND_NAMES } from './operation.ts';
import { meet, type Row } from './replay.ts';
import { FLUSH, RUN } from './schedule.ts';
import { rowText } from './table.ts';

const PID = 1;

export function scheduleTrace(rows: readonly Row[], threadNames: readonly string[], memory: Memory): string {
  const events: object[] = [
    { name: 'process_name', ph: 'M', pid: PID, args: { name: 'apiary explore: one schedule' } },
    ...threadNames.map((name, tid) => ({ name: 'thread_name', ph: 'M', pid: PID, tid, args: { name } })),
  ];
  for (const [ts, row] of rows.entries()) {
    const { thread: tid, kind, operation, line } = row;
    const name = `${kind === RUN ? KIND_NAMES[operation.kind] : kind === FLUSH ? 'reaches memory' : 'time limit'} ${memory.name(operation.word)}`;
    events.push({ name, ph: 'X', pid: PID, tid, ts, dur: 1, args: { step: ts + 1, what: rowText(row, memory), line } });
    const cause = rows.slice(0, ts).findLastIndex((other) => meet(row, other));
    const from = rows[cause];
    if (from === undefined || from.thread === tid) continue;
    const arrow = { name: memory.name(operation.word), cat: 'order', pid: PID, id: ts };
    events.push({ ...arrow, ph: 's', tid: from.thread, ts: cause }, { ...arrow, ph: 'f', bp: 'e', tid, ts });
  }
  return `[\n${events.map((event) => JSON.stringify(event)).join(',\n')}\n]\n`;
}
