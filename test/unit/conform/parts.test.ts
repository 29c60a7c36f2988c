/** The small parts of src/conform: pages, coverage, seeds, shrinking, rigs, the questions of the headline table. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { REG, RULE_NAMES, STATE_BYTES } from '../../../src/apic/index.ts';
import { parseRule, ruleList } from '../../../src/conform/breaking.ts';
import { choose, pick } from '../../../src/conform/choices.ts';
import { Coverage } from '../../../src/conform/coverage.ts';
import { canBeSent, machineOf } from '../../../src/conform/headline.ts';
import { minimise, shorterLists } from '../../../src/conform/minimise.ts';
import { applyRegisters, changesOf, fillPage, registerName } from '../../../src/conform/page.ts';
import { batchSeed, Random } from '../../../src/conform/random.ts';
import { makeRigs, RigCache } from '../../../src/conform/rigs.ts';

describe('pages', () => {
  it('differ by register', () => {
    const [a, b] = [new Uint8Array(STATE_BYTES), new Uint8Array(STATE_BYTES)];
    applyRegisters(b, [
      [REG.TPR, 0x20],
      [0x304, 0x80000000],
    ]);
    const changes = changesOf(a, b);
    expect(changes).toEqual([
      [REG.TPR, 0x20],
      [0x304, 0x80000000],
    ]);
    expect(changes.map(([offset]) => registerName(offset))).toEqual(['TPR', '+0x304']);
  });

  it('in x2APIC mode with the gate on have the right ID, whatever else they say', () => {
    const page = new Uint8Array(STATE_BYTES);
    const apic = { apicId: 0x123, baseLow: 0xfee00c00, baseHigh: 0, registers: [[REG.ID, 7]] as const };
    fillPage(page, apic, true);
    expect(new DataView(page.buffer).getUint32(REG.ID, true)).toBe(0x123);
    fillPage(page, apic, false);
    expect(new DataView(page.buffer).getUint32(REG.ID, true)).toBe(7);
  });
});

describe('coverage', () => {
  it('misses what was never hit, and counts what nobody asked for', () => {
    const coverage = new Coverage(['a', 'b']);
    coverage.hit('a');
    coverage.hit('c', 2);
    expect(coverage.missing).toEqual(['b']);
    expect(coverage.count('c')).toBe(2);
  });
});

describe('seeds', () => {
  it('the first batch has the seed itself, the others their own', () => {
    const seeds = [0, 1, 2, 3].map((n) => batchSeed(77, n));
    expect(seeds[0]).toBe(77);
    expect(new Set(seeds).size).toBe(4);
    expect(batchSeed(77, 3)).toBe(seeds[3]);
  });

  it('make the same rigs again: 40 different IDs below 0x1000, one rig for each setting of the gates', () => {
    const rigs = makeRigs(5);
    expect(makeRigs(5)).toEqual(rigs);
    expect(rigs.map(({ x2apicFormat, broadcastQuirkDisabled }) => [x2apicFormat, broadcastQuirkDisabled])).toEqual([
      [false, false],
      [true, false],
      [false, true],
      [true, true],
    ]);
    for (const { rig } of rigs) {
      expect(new Set(rig).size).toBe(40);
      expect(Math.max(...rig)).toBeLessThan(0x1000);
      const lowBytes = new Set(rig.map((id) => id & 0xff));
      expect(lowBytes.size).toBeLessThan(40); // aliases
    }
  });

  it('keep to what the host takes', () => {
    for (const { rig } of makeRigs(5, { maxVcpuId: 1023 })) {
      expect(Math.max(...rig)).toBeLessThan(1023);
      expect(Math.max(...rig)).toBeGreaterThan(0xff);
    }
  });

  it('are spread', () => {
    const random = new Random(1);
    const counts = [0, 0, 0, 0];
    for (let i = 0; i < 4000; i++) counts[random.below(4)] = (counts[random.below(4)] ?? 0) + 1;
    expect(Math.min(...counts)).toBeGreaterThan(0);
  });
});

describe('choices', () => {
  it('come as often as their weights say', () => {
    const drawn = fc.sample(choose([12, 'often'], [3, 'seldom'], [1, 'rare'], [0, 'never']), {
      seed: 1,
      numRuns: 4000,
    });
    const share = (what: string): number => drawn.filter((each) => each === what).length / drawn.length;
    expect(share('often')).toBeCloseTo(12 / 16, 1);
    expect(share('seldom')).toBeCloseTo(3 / 16, 1);
    expect(share('rare')).toBeGreaterThan(0.03);
    expect(share('never')).toBe(0);
  });

  it('shrink to the first', () => {
    const never = fc.property(choose([1, 'plain'], [9, 'odd']), () => false);
    expect(fc.check(never, { seed: 2 }).counterexample).toEqual(['plain']);
  });

  it('of a list are its elements, by any number', () => {
    expect([0, 4, -1, 2 ** 31].map((n) => pick(['a', 'b', 'c'], n))).toEqual(['a', 'b', 'a', 'c']);
    expect(() => pick([], 0)).toThrow(RangeError);
  });
});

it('a cache of rigs closes the oldest where there are too many, and all at the end', () => {
  const closed: string[] = [];
  const cache = new RigCache<{ close(): void }>(2);
  const [first, second, third] = makeRigs(1, { cpus: 3 });
  for (const [name, rig] of [['first', first] as const, ['second', second] as const, ['third', third] as const])
    cache.add(rig, { close: () => closed.push(name) });
  expect(closed).toEqual(['first']);
  expect([first, second, third].map((rig) => cache.get({ ...rig }) !== undefined)).toEqual([false, true, true]);
  cache.close();
  expect(closed).toEqual(['first', 'second', 'third']);
});

describe('minimise', () => {
  it('finds the shortest list that still fails', async () => {
    const start = Array.from({ length: 40 }, (_, i) => i);
    const fails = async (list: readonly number[]): Promise<boolean> => list.includes(3) && list.includes(31);
    expect(await minimise<readonly number[]>(start, shorterLists, fails, Date.now() + 5000)).toEqual([3, 31]);
  });

  it('is content with what it has when the time is up', async () => {
    const start = [1, 2, 3];
    expect(await minimise<readonly number[]>(start, shorterLists, async () => true, 0)).toBe(start);
  });
});

describe('rules', () => {
  it('are all listed, with a layer each', () => {
    expect(ruleList().map(([name]) => name)).toEqual([...RULE_NAMES]);
    expect(RULE_NAMES.length).toBeGreaterThanOrEqual(15);
  });

  it('that nobody knows are an error that says where the list is', () => {
    expect(() => parseRule('gatee')).toThrow(/'gatee'.*--break list/);
  });
});

describe('the headline questions', () => {
  const question = { x2apicFormat: false, broadcastQuirkDisabled: false, order: 'ascending' } as const;

  it('leave out what a sender cannot address', () => {
    const to123 = { ...question, targets: 'xAPIC', destination: 0x123 } as const;
    expect(canBeSent({ ...to123, sender: 'xAPIC IPI' })).toBe(false);
    expect(canBeSent({ ...to123, sender: 'MSI' })).toBe(false);
    expect(canBeSent({ ...to123, sender: 'x2APIC IPI' })).toBe(true);
  });

  it('a device sends in the absence of CPU 1, and parked CPUs are those over 0xff', () => {
    const { apics } = machineOf({ ...question, sender: 'MSI', targets: 'parked', destination: 0 });
    expect(apics.map(({ apicId }) => apicId)).not.toContain(1);
    for (const { apicId, baseLow } of apics) expect((baseLow & 0x400) === 0).toBe(apicId > 0xff);
  });
});
