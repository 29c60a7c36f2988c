/** Option values as people write them. */
import { describe, expect, test } from 'vitest';
import { cpuList, duration, size, wholeNumber } from '../../../src/cli/parse.ts';

describe('wholeNumber', () => {
  test.each([
    ['0', 0],
    ['291', 291],
    ['0x123', 0x123],
    ['0XfF', 0xff],
    [' 7 ', 7],
  ])('%j is %i', (text, value) => expect(wholeNumber(text)).toBe(value));

  test.each(['', '-1', '1.5', '1e3', '0x', 'ten', '1_000', 'NaN'])('%j is none', (text) => {
    expect(() => wholeNumber(text)).toThrow(`'${text}' is not a whole number; write for example 4 or 0x23.`);
  });

  test('more than a double holds is too large', () => {
    expect(() => wholeNumber('99999999999999999999')).toThrow(/too large/);
  });
});

describe('duration', () => {
  test.each([
    ['30s', 30_000],
    ['500ms', 500],
    ['2m', 120_000],
    ['30', 30_000],
    ['0.5s', 500],
    ['1h', 3_600_000],
    ['2d', 172_800_000],
    ['24w', undefined],
    ['-1s', undefined],
    ['', undefined],
    ['soon', undefined],
  ])('%j is %s ms', (text, millis) => {
    if (millis === undefined)
      expect(() => duration(text)).toThrow(`'${text}' is not a duration; write for example 500ms, 30s, 2m or 1h.`);
    else expect(duration(text)).toBe(millis);
  });

  test.each(['0', '0ms', '40000m', '99999999s'])('%j is out of range', (text) => {
    expect(() => duration(text)).toThrow(`'${text}' is out of range: 1ms to 24 days.`);
  });
});

describe('size', () => {
  test('sizes are in bytes', () => expect(size('64M')).toBe(64 * 2 ** 20));
  test('a small number alone is in MiB, a large one in bytes', () => {
    expect([size('64'), size('3072'), size('67108864')]).toEqual([64 * 2 ** 20, 3 * 2 ** 30, 2 ** 26]);
  });
  test('what is none says how to write one', () => {
    expect(() => size('big')).toThrow("memory 'big' is not a size; write for example 64M or 1G.");
  });
});

describe('cpuList', () => {
  test.each<[string, number[], number[]]>([
    ['4', [0, 1, 2, 3], []],
    ['1', [0], []],
    ['0x2', [2], []],
    ['0x23,maxcpus=2', [0x23], [0]],
    ['0,1,0x23', [0, 1, 0x23], []],
    ['0x23,0', [0x23, 0], []],
    ['2,maxcpus=4', [0, 1], [2, 3]],
    ['maxcpus=3', [0], [1, 2]],
    ['0,5,maxcpus=4', [0, 5], [1, 2]],
    ['ids=0,0x23', [0, 0x23], []],
    ['1,ids=0,0x23,0x123', [0], [0x23, 0x123]],
    ['2,maxcpus=5,ids=0,0x123', [0, 0x123], [1, 2, 3]],
    ['3,ids=7', [7, 0, 1], []],
  ])('%s', (text, cpus, hotpluggable) => expect(cpuList(text)).toEqual({ cpus, hotpluggable }));

  test.each([
    ['0', /^0 CPUs are out of range: give 1 or more/],
    ['100000', /^100000 CPUs are out of range/],
    ['maxcpus=0', /^0 CPUs are out of range/],
    ['', /is not a whole number/],
    ['0,,1', /is not a whole number/],
    ['0,x', /'x' is not a whole number/],
    ['-1', /'-1' is not a whole number/],
    ['sockets=2', /'sockets=2' is not known; write 4, 0,1,0x23, maxcpus=300 or ids=0,1,0x23/],
    ['0,1,ids=2', /either plainly or after ids=/],
  ])('%j is refused', (text, message) => expect(() => cpuList(text)).toThrow(message));

  test('a negative number beside others is refused as well', () => expect(() => cpuList('0,-1')).toThrow(/'-1'/));
});
