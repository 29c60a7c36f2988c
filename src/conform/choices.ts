/** Weighted choices of fast-check, written as lists of [weight, what]. The first is what shrinking goes to. */
import fc from 'fast-check';

export type Weighted<T> = readonly [weight: number, choice: T];

/** One of these values. */
export const choose = <T>(...choices: readonly Weighted<T>[]): fc.Arbitrary<T> =>
  mix(...choices.map(([weight, value]) => [weight, fc.constant(value)] as const));

/** A value of one of these arbitraries. */
export const mix = <T>(...choices: readonly Weighted<fc.Arbitrary<T>>[]): fc.Arbitrary<T> =>
  fc.oneof(...choices.filter(([weight]) => weight > 0).map(([weight, arbitrary]) => ({ weight, arbitrary })));
