/** Layer 2 without KVM: the model as a judge, comparing outcomes, generated lists, the guest's memory, words for people. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { RULE_NAMES, RULES } from '../../../src/apic/index.ts';
import { compareOutcomes } from '../../../src/conform/compare.ts';
import { describeOperation, msrName } from '../../../src/conform/describe.ts';
import { ModelJudge } from '../../../src/conform/model-judge.ts';
import { deliveryMode, mayStartCpus, unitsOf } from '../../../src/conform/operations.ts';
import { cases } from '../../../src/conform/registers/generate.ts';
import { OPLIST_MEMORY_BYTES, OplistMemory } from '../../../src/conform/registers/oplist.ts';
import { makeRigs } from '../../../src/conform/rigs.ts';
import { type Case, type GuestKind, type GuestOperation, SKIPPED } from '../../../src/conform/spec.ts';

const PAGE = 0xfee00000;
const RIGS = makeRigs(1, { cpus: 8 });
const HOST = { tsc: { khz: 1_000_000, high: 256 }, lowTpr: true, cr8Writes: true };

const operation = (kind: GuestKind, cpu: number, address = 0, low = 0, high = 0, size = 4): GuestOperation => ({
  kind,
  cpu,
  size,
  address,
  low,
  high,
});
const machine = {
  x2apicFormat: true,
  broadcastQuirkDisabled: false,
  bootstrap: 0,
  rig: [0, 1],
  apics: [0, 1].map((apicId) => ({
    apicId,
    baseLow: PAGE | 0x800 | (apicId === 0 ? 0x100 : 0),
    baseHigh: 0,
    registers: [[0x20, apicId << 24] as const, [0xf0, 0x1ff] as const],
  })),
};
const outcomeOf = (operations: GuestOperation[]) => new ModelJudge({}).carryOut({ machine, operations });

describe('the model as a judge', () => {
  it('takes what is deliverable in a window, the highest first, and ends it unless told not to', () => {
    const send = [0x31, 0x55].map((vector) => operation('mmio-write', 0, PAGE + 0x300, 0x44000 | vector));
    const { cpus } = outcomeOf([...send, operation('window', 0, 0, 0, 0, 0)]);
    expect(cpus[0]?.taken).toEqual([0x55, 0x31].map((vector) => ({ vector, position: 2 })));
    const kept = outcomeOf([...send, operation('window', 0, 0, 0, 0, 1)]);
    expect(kept.cpus[0]?.taken).toEqual([{ vector: 0x55, position: 2 }]);
  });

  it('a CPU that waits for a SIPI does not run', () => {
    const { results, events } = outcomeOf([
      operation('mmio-write', 0, PAGE + 0x310, 0x01000000),
      operation('mmio-write', 0, PAGE + 0x300, 0x4500),
      operation('mmio-read', 1, PAGE + 0x20),
      operation('mmio-write', 0, PAGE + 0x300, 0x4610),
      operation('mmio-read', 1, PAGE + 0x20),
    ]);
    expect(results.map(({ fault }) => fault)).toEqual([0, 0, SKIPPED, 0, 0]);
    expect(events).toEqual(['cpu 1: INIT by operation 2', 'cpu 1: SIPI 16 by operation 4']);
  });

  it('a running count is known by its bounds only', () => {
    const { results } = outcomeOf([
      operation('mmio-write', 0, PAGE + 0x380, 0xf0000000),
      operation('mmio-read', 0, PAGE + 0x390),
    ]);
    expect(results.map(({ tolerance }) => tolerance)).toEqual([
      undefined,
      { least: 0xf0000000 - 1.5e9, most: 0xf0000000 },
    ]); // 3 s at two nanoseconds each
  });
});

describe('comparing', () => {
  const candidates = (): Case<GuestOperation>[] => fc.sample(cases(RIGS, HOST), { seed: 5, numRuns: 300 });

  const differs = (reference: ModelJudge, other: ModelJudge): boolean =>
    candidates().some(
      (candidate) => compareOutcomes(reference.carryOut(candidate), other.carryOut(candidate)).length > 0,
    );

  it('the model equals itself', () => expect(differs(new ModelJudge({}), new ModelJudge({}))).toBe(false));

  it.each(RULE_NAMES.filter((rule) => RULES[rule].shows !== 'routing'))('the model without %s does not', (rule) => {
    expect(differs(new ModelJudge({}), new ModelJudge({ breakRules: [rule] }))).toBe(true);
  });
});

describe('operations', () => {
  it('those that can start CPUs are known by what they write to ICR, through either door', () => {
    const init = operation('mmio-write', 0, PAGE + 0x300, 0x4500);
    expect([init, { ...init, kind: 'wrmsr' as const, address: 0x830 }].map(mayStartCpus)).toEqual([true, true]);
    expect(mayStartCpus({ ...init, unattended: true })).toBe(false);
    expect(deliveryMode({ ...init, address: PAGE + 0x310 })).toBe(-1);
  });

  it('a timer and its wait are one unit', () => {
    const single = operation('nothing', 0);
    const timer = { ...single, unit: 7 };
    expect(unitsOf([single, timer, timer, single]).map((unit) => unit.length)).toEqual([1, 2, 1]);
  });

  it('are told in words', () => {
    expect(describeOperation(operation('wrmsr', 0, 0x830, 0x4031, 0x123))).toBe(
      'cpu 0: WRMSR 0x830 (x2APIC ICR) = 0x123:0x00004031',
    );
    expect([0x1b, 0x6e0, 0x8ff].map(msrName)).toEqual(['IA32_APIC_BASE', 'IA32_TSC_DEADLINE', 'no x2APIC register']);
  });
});

describe('the memory shared with the guest', () => {
  it('has operations of 16 bytes, results of 16 bytes, and a log for each CPU, where guest/oplist.S says', () => {
    const ram = new Uint8Array(OPLIST_MEMORY_BYTES);
    const view = new DataView(ram.buffer);
    const memory = new OplistMemory(ram);
    view.setUint32(0x401000, 9, true); // an old log
    memory.putList([operation('wrmsr', 1, 0x830, 0x4031, 0x123)], 2);
    expect([0, 1, 2].map((byte) => ram[0x201000 + byte])).toEqual([4, 4, 1]);
    expect([4, 8, 12].map((at) => view.getUint32(0x201000 + at, true))).toEqual([0x830, 0x4031, 0x123]);
    expect(memory.taken(1)).toEqual([]);
    view.setUint32(0x300000, 0xdead, true);
    view.setUint8(0x300008, 13);
    expect(memory.result(0)).toEqual({ low: 0xdead, high: 0, fault: 13 });
    view.setUint32(0x400000, 1, true);
    view.setUint32(0x400008, 0x31, true);
    view.setUint32(0x40000c, 5, true);
    expect(memory.taken(0)).toEqual([{ vector: 0x31, position: 5 }]);
  });
});

it("a host that loses TPR's low bits gets lists without them", () => {
  const isTpr = ({ kind, address }: { kind: string; address: number }): boolean =>
    (kind === 'mmio-write' && (address & 0xff0) === 0x80) || (kind === 'wrmsr' && address === 0x808);
  const lowBits = (lowTpr: boolean): number =>
    fc
      .sample(cases(RIGS, { ...HOST, lowTpr }), { seed: 5, numRuns: 300 })
      .flatMap(({ machine, operations }) => [
        ...operations.filter(isTpr).map(({ low }) => low & 0xf),
        ...machine.apics.flatMap(({ registers }) =>
          registers.filter(([at]) => at === 0x80).map(([, tpr]) => tpr & 0xf),
        ),
      ])
      .filter((low) => low !== 0).length;
  expect(lowBits(false)).toBe(0);
  expect(lowBits(true)).toBeGreaterThan(0);
});

it('a host that does not survive writes of CR8 gets lists without them', () => {
  const writes = (cr8Writes: boolean): number =>
    fc
      .sample(cases(RIGS, { ...HOST, cr8Writes }), { seed: 5, numRuns: 300 })
      .flatMap(({ operations }) => operations)
      .filter(({ kind }) => kind === 'write-cr8').length;
  expect(writes(false)).toBe(0);
  expect(writes(true)).toBeGreaterThan(0);
});
