/**
 * One schedule, step by step, for a reader: which line of the code made each access, what it gave and what it changed.
 * A schedule that stops early is gone on with as a person would expect: whoever made the last step goes on as long as it
 * can, then the first that can; buffers empty when nobody can. So only what is unexpected needs to be written down.
 */
import { KIND, type Operation, reads } from './operation.ts';
import { EXPIRE, FLUSH, type Move, moveExpire, moveFlush, moveKind, moveRun, moveThread, RUN } from './schedule.ts';
import { type Mark, State } from './state.ts';
import { whoWaits } from './stuck.ts';
import type { Subject } from './subject.ts';
import type { Place, ThreadTree } from './thread.ts';

export interface Row {
  readonly thread: number;
  /** RUN, FLUSH or EXPIRE. */
  readonly kind: number;
  readonly operation: Operation;
  readonly before: number;
  readonly after: number;
  /** What the thread got. */
  readonly given: number;
  /** It has not reached memory: a store that is in the buffer. */
  readonly isBuffered: boolean;
  /** 'apic/map.ts:68', or empty where there is no telling. */
  readonly line: string;
}

export interface Replay {
  readonly rows: readonly Row[];
  /** The shortest schedule that leads the same way. */
  readonly schedule: readonly Move[];
  /** What is broken; empty when the promise holds. */
  readonly why: string;
}

const NOBODY = -1;

export class Replayer {
  readonly #subject: Subject;
  readonly #touched: readonly Uint8Array[];
  readonly #buffered: boolean;

  /** @param touched what each thread touches, as a search has found it: steps are counted by it */
  constructor(subject: Subject, touched: readonly Uint8Array[], buffered: boolean) {
    this.#subject = subject;
    this.#touched = touched;
    this.#buffered = buffered;
  }

  /** @throws RangeError when a thread is to go on that cannot */
  replay(schedule: readonly Move[]): Replay {
    const { interception } = this.#subject;
    interception.install();
    try {
      return this.#replay(schedule);
    } finally {
      interception.uninstall();
    }
  }

  #replay(schedule: readonly Move[]): Replay {
    const subject = this.#subject;
    const words = subject.sharedWords(this.#touched);
    const threads = subject.threads(words);
    const state = new State(subject.memory.initial(), threads, this.#buffered);
    const rows: Row[] = [];
    const moves: Move[] = [];
    let needed = 0;
    let last = NOBODY;
    for (;;) {
      const expected = expectedMove(state, last, subject.scenario.timeLimits === 'expire');
      const move = schedule[moves.length] ?? expected;
      if (move === undefined) break;
      if (move !== expected) needed = moves.length + 1;
      check(state, move, moves.length, subject.threadNames);
      rows.push(makeMove(state, move));
      moves.push(move);
      if (moveKind(move) === RUN) last = moveThread(move);
    }
    const isOver = threads.every((_, thread) => state.isFinished(thread));
    const why = isOver ? subject.verdict(state, words) : whoWaits(state, subject);
    return { rows: withLines(rows, state, threads), schedule: moves.slice(0, needed), why };
  }
}

function expectedMove(state: State, last: number, expires: boolean): Move | undefined {
  const all = state.places.map((_, thread) => thread);
  if (last !== NOBODY && state.canGo(last)) return moveRun(last);
  const next = all.find((thread) => state.canGo(thread));
  if (next !== undefined) return moveRun(next);
  const buffered = all.find((thread) => state.buffered(thread) > 0);
  if (buffered !== undefined) return moveFlush(buffered);
  const timed = state.sleepers.find((sleeper) => sleeper.timed);
  return expires && timed !== undefined ? moveExpire(timed.thread) : undefined;
}

function check(state: State, move: Move, index: number, names: readonly string[]): void {
  const thread = moveThread(move);
  const possible = {
    [RUN]: () => !state.isFinished(thread) && !state.isAsleep(thread),
    [FLUSH]: () => state.buffered(thread) > 0,
    [EXPIRE]: () => state.sleepers.some((sleeper) => sleeper.thread === thread && sleeper.timed),
  }[moveKind(move)];
  if (possible?.() === true) return;
  throw new RangeError(`step ${index + 1} of the schedule is not possible for ${names[thread]}; has the code changed?`);
}

function makeMove(state: State, move: Move): Row {
  const thread = moveThread(move);
  const kind = moveKind(move);
  const isFlush = kind === FLUSH;
  const place = state.places[thread] as Place;
  const operation = (isFlush ? state.oldest(thread) : place.operation) as Operation;
  const before = isFlush ? (state.words[operation.word] as number) : state.seen(thread, operation.word);
  const waiting = state.buffered(thread);
  const steps: Record<number, () => Mark> = {
    [RUN]: () => state.step(thread),
    [FLUSH]: () => state.flush(thread),
    [EXPIRE]: () => state.expire(thread),
  };
  steps[kind]?.();
  return {
    thread,
    kind,
    operation,
    before,
    after: state.words[operation.word] as number,
    given: state.places[thread] === place ? 0 : (state.places[thread] as Place).given,
    isBuffered: kind === RUN && state.buffered(thread) > waiting,
    line: '',
  };
}

/** The code's line for each step that it made. */
function withLines(rows: readonly Row[], state: State, threads: readonly ThreadTree[]): Row[] {
  const stacks = threads.map((thread, index) => thread.stacks(state.places[index] as Place));
  const next = threads.map(() => 0);
  return rows.map((row) => {
    if (row.kind !== RUN) return row;
    const stack = stacks[row.thread]?.[(next[row.thread] as number)++];
    return { ...row, line: codeLine(stack ?? '') };
  });
}

/** The innermost frame of the explored code, by its file's name below src/ or dist/. */
function codeLine(stack: string): string {
  for (const frame of stack.split('\n')) {
    const match = /\/(?:src|dist)\/((?:apic|machine|explore\/scenarios)\/[\w./-]+:\d+)/.exec(frame);
    if (match?.[1] !== undefined) return match[1];
  }
  return '';
}

/** Do two rows concern the same word, one of them writing it? */
export function meet(x: Row, y: Row): boolean {
  const [a, b] = [x.operation, y.operation];
  const overlap =
    a.kind === KIND.FILL
      ? b.word >= a.word && b.word < a.b
      : b.kind === KIND.FILL
        ? a.word >= b.word && a.word < b.b
        : a.word === b.word;
  return overlap && (isWrite(x) || isWrite(y));
}

export const isWrite = ({ kind, operation, before, after }: Row): boolean =>
  kind === FLUSH || operation.kind >= KIND.WAIT || !reads(operation.kind) || before !== after;
