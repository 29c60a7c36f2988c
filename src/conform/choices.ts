/** Weighted choices of fast-check, written as lists of [weight, what]. The first is what shrinking goes to. */
import fc from 'fast-check';

export type Weighted<T> = readonly [weight: number, choice: T];

/** One of these values. It is drawn from a list that has each as often as its weight says, the cheapest thing there is. */
export const choose = <T>(...choices: readonly Weighted<T>[]): fc.Arbitrary<T> =>
  fc.constantFrom(...choices.flatMap(([weight, value]) => Array<T>(weight).fill(value)));

/** A value of one of these arbitraries. */
export const mix = <T>(...choices: readonly Weighted<fc.Arbitrary<T>>[]): fc.Arbitrary<T> =>
  fc.oneof(...choices.map(([weight, arbitrary]) => ({ weight, arbitrary })));

/** Of each slot one at most. */
export const slots = <T>(
  choice: fc.Arbitrary<readonly [slot: number, what: T]>,
  minLength: number,
  maxLength: number,
): fc.Arbitrary<(readonly [slot: number, what: T])[]> =>
  fc.uniqueArray(choice, { minLength, maxLength, selector: ([slot]) => slot, size: 'max' });

/** 32 random bits, for a chosen function to take what it needs of. */
export const word = fc.integer();

/** The element that a random number means. */
export function pick<T>(list: readonly T[], n: number): T {
  const found = list[(n >>> 0) % list.length];
  if (found === undefined) throw new RangeError('nothing to pick from');
  return found;
}
