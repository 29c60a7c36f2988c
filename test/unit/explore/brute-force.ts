/**
 * The judge of the explorer: programs as data, and every interleaving of them on x86-TSO's abstract machine (a buffer for
 * each thread, which may be emptied by one store at any time), with no reduction at all.
 */
import type { Body } from './small.ts';

export type Step =
  | { readonly do: 'load' | 'atomic load'; readonly word: number }
  | { readonly do: 'store' | 'atomic store' | 'add' | 'exchange'; readonly word: number; readonly value: number }
  | { readonly do: 'swap if'; readonly word: number; readonly expected: number; readonly value: number }
  | { readonly do: 'fill'; readonly value: number };

/** What a thread learned, as one number. */
const learn = (before: number, value: number): number => before * 5 + value + 1;

/** The program as the explorer runs it. Steps after a load of 1 are left out at every second place: control flow depends. */
export function toBody(steps: readonly Step[]): Body {
  return (words) => {
    let learned = 0;
    let skip = false;
    for (const [i, step] of steps.entries()) {
      if (skip && i % 2 === 1) continue;
      const value = perform(words, step);
      if (value === undefined) continue;
      learned = learn(learned, value);
      skip = value === 1;
    }
    return learned;
  };
}

function perform(words: Int32Array, step: Step): number | undefined {
  switch (step.do) {
    case 'load':
      return words[step.word];
    case 'atomic load':
      return Atomics.load(words, step.word);
    case 'store':
      words[step.word] = step.value;
      return undefined;
    case 'atomic store':
      Atomics.store(words, step.word, step.value);
      return undefined;
    case 'add':
      return Atomics.add(words, step.word, step.value);
    case 'exchange':
      return Atomics.exchange(words, step.word, step.value);
    case 'swap if':
      return Atomics.compareExchange(words, step.word, step.expected, step.value);
    case 'fill':
      words.fill(step.value, 0, 2);
      return undefined;
  }
}

interface Thread {
  readonly next: number;
  readonly learned: number;
  readonly skip: boolean;
  readonly buffer: readonly (readonly [word: number, value: number])[];
}

export function bruteForce(programs: readonly (readonly Step[])[], buffered: boolean, withWords: boolean): string[] {
  const outcomes = new Set<string>();
  const seen = new Set<string>();
  const visit = (memory: readonly number[], threads: readonly Thread[]): void => {
    const key = JSON.stringify([memory, threads]);
    if (seen.has(key)) return;
    seen.add(key);
    let isEnd = true;
    threads.forEach((thread, index) => {
      const replace = (memory: readonly number[], by: Thread): void => visit(memory, threads.with(index, by));
      const [oldest, ...rest] = thread.buffer;
      if (oldest !== undefined) {
        isEnd = false;
        replace(memory.with(oldest[0], oldest[1]), { ...thread, buffer: rest });
      }
      const step = programs[index]?.[thread.next];
      if (step === undefined) return;
      isEnd = false;
      const after = { ...thread, next: thread.next + 1 };
      if (thread.skip && thread.next % 2 === 1) replace(memory, after);
      else machineStep(memory, after, step, buffered, replace);
    });
    if (isEnd)
      outcomes.add(`${threads.map(({ learned }) => learned).join(' ')}${withWords ? ` | ${memory.join(' ')}` : ''}`);
  };
  visit(
    [0, 0, 0, 0],
    programs.map(() => ({ next: 0, learned: 0, skip: false, buffer: [] })),
  );
  return [...outcomes].sort((x, y) => (x < y ? -1 : 1));
}

function machineStep(
  memory: readonly number[],
  thread: Thread,
  step: Step,
  buffered: boolean,
  go: (memory: readonly number[], thread: Thread) => void,
): void {
  const told = (value: number): Thread => ({ ...thread, learned: learn(thread.learned, value), skip: value === 1 });
  const stores = step.do === 'fill' ? [0, 1].map((word) => [word, step.value] as const) : [];
  if (step.do === 'store') stores.push([step.word, step.value]);
  if (stores.length > 0) {
    if (buffered) go(memory, { ...thread, buffer: [...thread.buffer, ...stores] });
    // Without buffers a fill is still two steps; a buffer that only the fill uses shows the state in between.
    else if (stores.length === 1)
      go(
        stores.reduce((words, [word, value]) => words.with(word, value), memory),
        thread,
      );
    return;
  }
  if (step.do === 'fill') return;
  const own = thread.buffer.findLast(([word]) => word === step.word);
  if (step.do === 'load' || step.do === 'atomic load') {
    go(memory, told(own?.[1] ?? (memory[step.word] as number)));
    return;
  }
  if (thread.buffer.length > 0) return; // a locked instruction waits until the buffer is empty
  const old = memory[step.word] as number;
  if (step.do === 'atomic store') go(memory.with(step.word, step.value), thread);
  else if (step.do === 'swap if') go(old === step.expected ? memory.with(step.word, step.value) : memory, told(old));
  else if (step.do === 'add') go(memory.with(step.word, old + step.value), told(old));
  else if (step.do === 'exchange') go(memory.with(step.word, step.value), told(old));
}
