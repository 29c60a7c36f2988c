/**
 * The explorer leaves out what is certain to change nothing, visits a state once and never runs two threads. Here it is
 * compared, on random programs, with brute force: neither an outcome too few nor one too many.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { bruteForce, type Step, toBody } from './brute-force.ts';
import { outcomes } from './small.ts';

const word = fc.integer({ min: 0, max: 2 });
const value = fc.integer({ min: 0, max: 2 });
const step = (withFill: boolean): fc.Arbitrary<Step> =>
  fc.oneof(
    { weight: 3, arbitrary: fc.record({ do: fc.constantFrom('load', 'atomic load'), word }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant('store'), word, value }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constantFrom('atomic store', 'add', 'exchange'), word, value }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('swap if'), word, expected: value, value }) },
    ...(withFill ? [{ weight: 1, arbitrary: fc.record({ do: fc.constant('fill'), value }) }] : []),
  ) as fc.Arbitrary<Step>;

/** Three steps a thread: a fourth same load in a row would be taken for a spin. */
const programs = (withFill: boolean, threads: number): fc.Arbitrary<Step[][]> =>
  fc.array(fc.array(step(withFill), { minLength: 1, maxLength: 3 }), { minLength: 2, maxLength: threads });

test.each([
  ['tso', true, 3],
  ['sc', false, 3],
  ['tso', false, 2],
] as const)(
  '%s, fill %s, up to %i threads: the outcomes of random programs are those of brute force',
  (memory, withFill, threads) => {
    fc.assert(
      fc.property(programs(withFill, threads), (each) => {
        // A fill is cut where a thread reads, so two at once are not told apart in words that nobody reads.
        const withWords = !withFill;
        expect(outcomes(each.map(toBody), memory, withWords)).toEqual(bruteForce(each, memory === 'tso', withWords));
      }),
      { numRuns: Number(process.env.EXPLORE_RUNS ?? 200) },
    );
  },
  300_000,
);
