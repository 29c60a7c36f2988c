/**
 * Layer 2: the same lists of register accesses in a guest on KVM's APICs, in a guest on ours, and on the model; and every
 * rule that shows in registers is missed when it is broken. See src/conform/registers/layer2.ts.
 */
import { describe, expect, it } from 'vitest';
import { RULE_NAMES, RULES } from '../../src/apic/index.ts';
import { freshSeed } from '../../src/conform/random.ts';
import { run, SECONDS, say, whyNoKvm } from './campaign.ts';
import { FAILED_SEEDS } from './seeds.ts';

const why = whyNoKvm();
const CAUGHT_MILLIS = 10_000;
/** Making the machines, and a busy host. */
const GRACE_MILLIS = 60_000;

describe.skipIf(why !== undefined)(`layer 2${why === undefined ? '' : ` (skipped: ${why})`}`, () => {
  it(
    'with a fresh seed, results, faults, interrupts and register pages are the kernel’s',
    async () => {
      const seed = freshSeed();
      const { failure, coverage, cases, millis } = await run({ layer: 2, seed });
      say(`layer 2: seed ${seed}, ${cases} operations, ${Math.round((cases / millis) * 1000)} a second`);
      expect(failure?.lines.join('\n')).toBeUndefined();
      if (SECONDS >= 60) expect(coverage.missing).toEqual([]);
    },
    SECONDS * 1000 + GRACE_MILLIS,
  );

  it.each(FAILED_SEEDS.filter(({ layer }) => layer === 2))(
    'seed $seed, path $path, which once failed: $was',
    async (failed) => {
      const { failure } = await run({ layer: 2, seed: failed.seed, path: failed.path });
      expect(failure?.lines.join('\n')).toBeUndefined();
    },
    GRACE_MILLIS,
  );

  it.each(RULE_NAMES.filter((rule) => RULES[rule].shows !== 'routing'))(
    'without the rule %s the harness notices within 10 s',
    async (rule) => {
      const { failure } = await run({
        layer: 2,
        seed: freshSeed(),
        millis: CAUGHT_MILLIS,
        breakRules: [rule],
        shrink: false,
      });
      expect(failure?.foundAfterMillis).toBeLessThan(CAUGHT_MILLIS);
    },
    CAUGHT_MILLIS + GRACE_MILLIS,
  );

  it(
    'a failure is shrunk to a few operations on one or two CPUs',
    async () => {
      const { failure } = await run({ layer: 2, seed: 1, millis: CAUGHT_MILLIS, breakRules: ['icr2TopByte'] });
      const found = JSON.parse(failure?.json ?? '{}') as { operations?: unknown[]; machine?: { apics: unknown[] } };
      expect(found.operations?.length).toBeLessThanOrEqual(3);
      expect(found.machine?.apics.length).toBeLessThanOrEqual(2);
    },
    CAUGHT_MILLIS + GRACE_MILLIS,
  );
});
