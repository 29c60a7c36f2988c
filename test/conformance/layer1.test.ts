/** Layer 1: our routing and states against the kernel's, and every rule broken is noticed. See src/conform/layer1.ts. */
import { describe, expect, it } from 'vitest';
import { RULE_NAMES } from '../../src/apic/index.ts';
import { layerOf } from '../../src/conform/breaking.ts';
import { freshSeed } from '../../src/conform/random.ts';
import { run, SECONDS, say, whyNoKvm } from './campaign.ts';
import { FAILED_SEEDS } from './seeds.ts';

const why = whyNoKvm();
const CAUGHT_MILLIS = 10_000;

describe.skipIf(why !== undefined)(`layer 1${why === undefined ? '' : ` (skipped: ${why})`}`, () => {
  it(
    'with a fresh seed, every answer and every register page are the kernel’s',
    async () => {
      const seed = freshSeed();
      const { failure, coverage, cases, millis } = await run({ layer: 1, seed });
      say(`layer 1: seed ${seed}, ${cases} cases, ${Math.round((cases / millis) * 1000)} a second`);
      expect(failure?.lines.join('\n')).toBeUndefined();
      expect(coverage.missing).toEqual([]);
    },
    SECONDS * 1000 + 30_000,
  );

  it.each(FAILED_SEEDS.filter(({ layer }) => layer === 1))(
    'seed $seed, path $path, which once failed: $was',
    async (failed) => {
      const { failure } = await run({ layer: 1, seed: failed.seed, path: failed.path });
      expect(failure?.lines.join('\n')).toBeUndefined();
    },
  );

  it.each(RULE_NAMES.filter((rule) => layerOf(rule) === 1))(
    'without the rule %s the harness notices within 10 s',
    async (rule) => {
      const { failure } = await run({
        layer: 1,
        seed: freshSeed(),
        millis: CAUGHT_MILLIS,
        breakRules: [rule],
        shrink: false,
      });
      expect(failure?.foundAfterMillis).toBeLessThan(CAUGHT_MILLIS);
    },
  );

  it('a failure is shrunk to a few operations on a few CPUs, and its seed and path find it again', async () => {
    const { failure } = await run({ layer: 1, seed: 1, millis: CAUGHT_MILLIS, breakRules: ['wideDestination'] });
    const found = JSON.parse(failure?.json ?? '{}') as { operations?: unknown[]; machine?: { apics: unknown[] } };
    expect(found.operations?.length).toBeLessThanOrEqual(3);
    expect(found.machine?.apics.length).toBeLessThanOrEqual(3);
    const again = await run({
      layer: 1,
      seed: failure?.seed ?? 0,
      path: failure?.path,
      breakRules: ['wideDestination'],
      shrink: false,
    });
    expect(again.failure?.path).toBe(failure?.path);
  });
});
