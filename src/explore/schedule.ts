/**
 * A schedule as a short text: who makes a step, so many times. Threads are a, b, c ... in the order of the scenario; A is a
 * store of thread a that leaves its buffer; an exclamation mark after a letter, the end of that thread's time limit.
 * `a12b3Bb` is: a makes 12 steps, b 3, b's oldest store reaches memory, b makes one more.
 */
export const RUN = 0;
export const FLUSH = 1;
export const EXPIRE = 2;

/** Three numbers in one: what happens, to which thread. */
export type Move = number;
export const moveRun = (thread: number): Move => thread * 4 + RUN;
export const moveFlush = (thread: number): Move => thread * 4 + FLUSH;
export const moveExpire = (thread: number): Move => thread * 4 + EXPIRE;
export const moveKind = (move: Move): number => move & 3;
export const moveThread = (move: Move): number => move >> 2;

const SMALL_A = 97;
const BIG_A = 65;

export function scheduleText(moves: readonly Move[]): string {
  let text = '';
  for (let i = 0; i < moves.length; ) {
    const move = moves[i] as Move;
    let count = 1;
    while (moves[i + count] === move) count++;
    const kind = moveKind(move);
    text += String.fromCharCode((kind === FLUSH ? BIG_A : SMALL_A) + moveThread(move));
    if (kind === EXPIRE) text += '!';
    if (count > 1) text += count;
    i += count;
  }
  return text;
}

/** @throws RangeError when it is not a schedule of `threads` threads */
export function parseSchedule(text: string, threads: number): Move[] {
  const moves: Move[] = [];
  const parts = text.match(/[a-z]!?\d*|[A-Z]\d*/g) ?? [];
  if (parts.join('') !== text || text === '') throw new RangeError(`'${text}' is no schedule; one looks like a12b3Bb`);
  for (const part of parts) {
    const code = part.charCodeAt(0);
    const isFlush = code < SMALL_A;
    const thread = code - (isFlush ? BIG_A : SMALL_A);
    if (thread >= threads)
      throw new RangeError(`'${part}': the scenario has ${threads} threads, a to ${letter(threads - 1)}`);
    const count = Number(/\d+$/.exec(part)?.[0] ?? 1);
    if (count < 1 || count > MAX_COUNT) throw new RangeError(`'${part}': a count is 1 to ${MAX_COUNT}`);
    const move = isFlush ? moveFlush(thread) : part.includes('!') ? moveExpire(thread) : moveRun(thread);
    for (let i = 0; i < count; i++) moves.push(move);
  }
  return moves;
}

export const letter = (thread: number): string => String.fromCharCode(SMALL_A + thread);
const MAX_COUNT = 100_000;
