/** The engine of `apiary conform`, without KVM: the intact model stands in for the kernel. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type ApicSystemOptions, type Behaviour, RULE_NAMES } from '../../../src/apic/index.ts';
import { layerOf } from '../../../src/conform/breaking.ts';
import { type CampaignOptions, type Result, runCampaign, type Suite } from '../../../src/conform/campaign.ts';
import { Coverage } from '../../../src/conform/coverage.ts';
import { Layer1 } from '../../../src/conform/layer1.ts';
import { ModelJudge } from '../../../src/conform/model-judge.ts';
import { RoutingObserver } from '../../../src/conform/routing-coverage.ts';

const run = (model: ApicSystemOptions, options: Partial<CampaignOptions> = {}): Promise<Result> => {
  const { breakRules: _, ...intact } = model;
  return runCampaign(new Layer1(new ModelJudge(intact), model), { seed: 1, millis: 1500, ...options });
};

describe('a campaign', () => {
  it('finds nothing between two equal judges, and counts what it saw', async () => {
    const { failure, cases, machines, coverage } = await run({}, { millis: 3000 });
    expect(failure).toBeUndefined();
    expect(machines).toBeGreaterThan(0);
    expect(cases).toBeGreaterThan(machines);
    expect(coverage.count('gate on') + coverage.count('gate off')).toBe(machines);
  });

  it('keeps to its time, also when a batch is not over', async () => {
    const { machines } = await run({}, { millis: 50 });
    expect(machines).toBeLessThan(400); // a batch
  });

  it('shrinks a failure, and finds it again by its seed and path', async () => {
    const breakRules = ['oddDfr'] as const;
    const { failure } = await run({ breakRules }, { millis: 10_000, shrinkMillis: 10_000 });
    expect(failure?.lines.filter((line) => /^ {2}\d+\. /.test(line)).length).toBeLessThanOrEqual(2);
    const again = await run({ breakRules }, { seed: failure?.seed ?? 0, path: failure?.path, shrink: false });
    expect(again.failure?.path).toBe(failure?.path);
  });

  it('says what differs, side by side', async () => {
    const { failure } = await run({ breakRules: ['msiReservedHigh'] }, { millis: 10_000 });
    expect(failure?.lines.join('\n')).toMatch(/operation \d+ +-22 +-?\d/);
  });

  it('reports its progress', async () => {
    const seen: number[] = [];
    await run({}, { millis: 700, onProgress: ({ cases }) => seen.push(cases) });
    expect(seen.length).toBeGreaterThan(0);
    expect(seen).toEqual(seen.toSorted((a, b) => a - b));
  });
});

describe('every rule of layer 1, broken, is noticed without a kernel as well', () => {
  it.each(RULE_NAMES.filter((rule) => layerOf(rule) === 1))('%s', async (rule) => {
    const { failure } = await run({ breakRules: [rule] }, { millis: 10_000, shrink: false });
    expect(failure?.foundAfterMillis).toBeLessThan(10_000);
  });
});

describe('what must be seen is what the kernel that a behaviour follows can show', () => {
  const asked = (behaviour: Behaviour): string[] => {
    const { entries } = new RoutingObserver({ behaviour }).coverage;
    return entries.map(([name]) => name);
  };
  const older = ['legacy-logical-alias', 'legacy-id-of-a-state', 'legacy-left-x2apic'].map(
    (name) => `map and scan: ${name}`,
  );
  const newer = ['no map: physical alias', 'map and scan: wide-id-without-gate'];

  it.each([
    ['kvm@6.1', older, newer],
    ['kvm@6.12', newer, older],
    ['kvm', newer, older],
  ] as const)('%s', async (behaviour, shown, hidden) => {
    expect(asked(behaviour)).toEqual(expect.arrayContaining([...shown]));
    for (const name of hidden) expect(asked(behaviour)).not.toContain(name);
    const { coverage } = await run({ behaviour }, { seed: Date.now() % 1e9 });
    expect(coverage.entries.map(([name]) => name)).toEqual(asked(behaviour)); // and nothing else was seen
  });
});

// The kernel judges behaviour `kvm` alone; that the map and the scan agree is asked of all.
describe('map and scan agree but for the differences with a name', () => {
  it.each([
    ['kvm-legacy', { behaviour: 'kvm-legacy' }],
    ['hardware, which has no such difference', { behaviour: 'hardware' }],
    ['kvm without vector hashing', { vectorHashing: false }],
    ['kvm without memory for the map', { failMapAllocation: true }],
  ] as const)('%s', async (_, model) => {
    const { failure, coverage } = await run(model, { seed: Date.now() % 1e9, millis: 1500 });
    expect(failure?.lines.join('\n')).toBeUndefined();
    const named = coverage.entries.filter(([name, count]) => name.startsWith('map and scan') && count > 0);
    if ('behaviour' in model && model.behaviour === 'hardware') expect(named).toEqual([]);
  });
});

it('a suite whose batches are one case, as races are, has no path to print, and its case is in the failure', async () => {
  const coverage = new Coverage([]);
  const races: Suite<{ n: number }> = {
    ...{ coverage, cases: 0, batch: 1, shorter: () => [], describe: ({ n }) => [`round ${n}`] },
    prepare: (seed) => fc.constant({ n: seed }),
    judge: () => ['lost'],
  };
  const { failure } = await runCampaign(races, { seed: 7, millis: 1000, shrink: false });
  expect(failure).toMatchObject({ seed: 7, path: '', lines: ['round 7', 'lost'], json: '{"n":7}' });
});
