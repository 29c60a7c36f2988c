/** A few words of a scenario's own, beside the memory of the code that it explores. */
import type { Region } from './memory.ts';

export interface OwnWords {
  readonly region: Region;
  /** A thread's own view. */
  view(): Int32Array;
}

/** @param names what they are called; all are 0 at first */
export function ownWords(names: readonly string[]): OwnWords {
  const buffer = new SharedArrayBuffer(Math.max(1, names.length) * 4);
  return {
    region: { buffer, name: (word) => names[word] ?? `word ${word}` },
    view: () => new Int32Array(buffer),
  };
}
