/**
 * 256-bit vector registers (ISR, TMR, IRR): eight 32-bit words, four words apart, in the shared register page.
 * `first` is the word of the register that holds vectors 0-31. The functions named `share...` are atomic and may be called
 * by any thread; the others are for the owner.
 */
const STRIDE = 4;

export const vectorWord = (first: number, vector: number): number => first + (vector >>> 5) * STRIDE;
const bit = (vector: number): number => 1 << (vector & 31);

export const hasVector = (words: Int32Array, first: number, vector: number): boolean =>
  (words[vectorWord(first, vector)] & bit(vector)) !== 0;

export function setVector(words: Int32Array, first: number, vector: number): void {
  words[vectorWord(first, vector)] |= bit(vector);
}

export function clearVector(words: Int32Array, first: number, vector: number): void {
  words[vectorWord(first, vector)] &= ~bit(vector);
}

export function shareSetVector(words: Int32Array, first: number, vector: number): void {
  Atomics.or(words, vectorWord(first, vector), bit(vector));
}

export function shareClearVector(words: Int32Array, first: number, vector: number): void {
  Atomics.and(words, vectorWord(first, vector), ~bit(vector));
}

/**
 * The highest vector set, 0-255, or -1. Plain loads, eight atomic ones cost 60 ns: an owner that must not miss a sender's
 * bit looks after an atomic access of the word that the sender stores next (`wake`).
 */
export function highestVector(words: Int32Array, first: number): number {
  for (let group = 7; group >= 0; group--) {
    const word = words[first + group * STRIDE];
    if (word !== 0) return group * 32 + 31 - Math.clz32(word);
  }
  return -1;
}

/** How many vectors are set. */
export function countVectors(words: Int32Array, first: number): number {
  let count = 0;
  for (let group = 0; group < 8; group++) count += popCount(words[first + group * STRIDE]);
  return count;
}

/** Every vector set, ascending. For snapshots. */
export function listVectors(words: Int32Array, first: number): number[] {
  const list: number[] = [];
  for (let vector = 0; vector < 256; vector++) if (hasVector(words, first, vector)) list.push(vector);
  return list;
}

/** Bits set in a 32-bit word. */
export function popCount(word: number): number {
  let n = word - ((word >>> 1) & 0x55555555);
  n = (n & 0x33333333) + ((n >>> 2) & 0x33333333);
  return (((n + (n >>> 4)) & 0x0f0f0f0f) * 0x01010101) >>> 24;
}

/** Position of the (n + 1)th lowest bit of `mask`; n is less than popCount(mask). */
export function nthBit(mask: number, n: number): number {
  let rest = mask;
  for (let i = 0; i < n; i++) rest &= rest - 1;
  return 31 - Math.clz32(rest & -rest);
}
