/** Recorded cases: writing, reading, judging a model by them, and files that are none. */
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { cases as hostCases } from '../../../src/conform/arbitraries.ts';
import { ModelJudge } from '../../../src/conform/model-judge.ts';
import { withLooks } from '../../../src/conform/operations.ts';
import { recordCase } from '../../../src/conform/record.ts';
import { type RecordedCase, readRecording, writeRecording } from '../../../src/conform/recorded.ts';
import { cases as guestCases } from '../../../src/conform/registers/generate.ts';
import { replay } from '../../../src/conform/replay.ts';
import { makeRigs } from '../../../src/conform/rigs.ts';

const HEADER = { kernel: 'a model', behaviour: 'kvm', host: {}, guest: {} };
const FIRST_LINE = '{"format":"apiary-cases","version":1}\n';
const HOST = { tsc: { khz: 1_000_000, high: 256 }, lowTpr: true, cr8Writes: true };

/** The intact model stands in for a kernel. */
function cases(): RecordedCase[] {
  const [reference, model] = [new ModelJudge({}), new ModelJudge({})];
  const host = fc.sample(hostCases(makeRigs(3)), { seed: 5, numRuns: 60 });
  const guest = fc.sample(guestCases(makeRigs(3, { cpus: 8 }), HOST), { seed: 5, numRuns: 30 });
  return [...host.map(withLooks), ...guest].map((candidate) => recordCase(reference, model, candidate));
}

describe('a recording', () => {
  const recording = readRecording(writeRecording({ header: HEADER, cases: cases() }));

  it('is read as it was written: its model agrees with it', () => {
    const { failure, lists, operations } = replay(recording, {});
    expect(failure?.join('\n')).toBeUndefined();
    expect(lists).toBe(90);
    expect(operations).toBeGreaterThan(2000);
  });

  it('tells another model where it differs, up to that operation', () => {
    const { failure } = replay(recording, { breakRules: ['vectorHashing'] });
    const text = failure?.join('\n') ?? '';
    expect(text).toMatch(/kernel a model +model/);
    const last = [...text.matchAll(/^ {2}(\d+)\. /gm)].at(-1)?.[1];
    expect(text).toMatch(new RegExp(`operation ${last}\\b`));
  });

  it.each<[string, Uint8Array, RegExp]>([
    ['no gzip', Buffer.from('{}'), /no file of recorded cases/],
    ['something else', gzipSync('{"format":"x"}\n'), /no file of recorded cases/],
    ['a later version', gzipSync('{"format":"apiary-cases","version":2}\n'), /version 2/],
    ['no JSON', gzipSync(`${FIRST_LINE}{`), /line 2 is not JSON/],
  ])('%s is refused in a line', (_, bytes, says) => {
    expect(() => readRecording(bytes)).toThrow(says);
    expect(() => readRecording(bytes)).toThrow(RangeError);
  });

  const apics = [{ apicId: 0, base: [0, 0], registers: [] }];
  const settle = { kind: 'settle', cpu: 0 };
  it.each<[string, unknown]>([
    ['no case', null],
    ['no APICs', { apics: [], operations: [settle], results: [{}] }],
    ['an unknown operation', { apics, operations: [{ kind: 'x' }], results: [{}] }],
    ['a CPU that is not there', { apics, operations: [{ kind: 'settle', cpu: 1 }], results: [{}] }],
    ['a value that is no number', { apics, operations: [{ kind: 'base', cpu: 0, low: 'x', high: 0 }], results: [{}] }],
    [
      'a register beyond the page',
      { apics: [{ apicId: 0, base: [0, 0], registers: [[1024, 1]] }], operations: [settle], results: [{}] },
    ],
    ['a result too few', { apics, operations: [settle], results: [] }],
  ])('%s is refused with its line', (_, line) => {
    const bytes = gzipSync(`${FIRST_LINE}${JSON.stringify(line)}\n`);
    expect(() => readRecording(bytes)).toThrow(/^line 2: /);
    expect(() => readRecording(bytes)).toThrow(RangeError);
  });
});
