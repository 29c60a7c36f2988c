import { describe, expect, it } from 'vitest';
import * as aml from '../../../src/boot/acpi/aml.ts';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const zeros = (count: number) => new Uint8Array(count);

describe('AML integers take their shortest form', () => {
  it.each([
    [0, '00'],
    [1, '01'],
    [2, '0a02'],
    [0xff, '0aff'],
    [0x100, '0b0001'],
    [0xffff, '0bffff'],
    [0x10000, '0c00000100'],
    [0xffffffff, '0cffffffff'],
  ])('%i', (value, bytes) => {
    expect(hex(aml.integer(value))).toBe(bytes);
  });
});

describe('AML names are padded, prefixed and counted', () => {
  it.each([
    ['A', '415f5f5f'],
    ['\\_SB', '5c5f53425f'],
    ['^^ABCD', '5e5e41424344'],
    ['\\_SB.GED', '5c2e5f53425f4745445f'],
    ['AA.BB.CC', '2f0341415f5f42425f5f43435f5f'],
    ['\\', '5c00'],
  ])('%s', (path, bytes) => {
    expect(hex(aml.name(path))).toBe(bytes);
  });
});

it('an EISA ID packs three letters in five bits each', () => {
  expect(hex(aml.eisaId('PNP0A06'))).toBe('0c41d00a06');
});

describe('a package length counts itself and grows at 64, 4096 and 1 MiB', () => {
  // else { <zeros> } is 0xa1, the length, the body.
  it.each([
    [0, '01'],
    [62, '3f'],
    [63, '4104'],
    [0xfff - 2, '4fff'],
    [0x1000 - 2, '810001'],
    [0xfffff - 3, '8fffff'],
    [0x100000 - 3, 'c1000001'],
  ])('a body of %i bytes', (size, length) => {
    const encoded = aml.otherwise(zeros(size));
    expect(hex(encoded.subarray(0, 1 + length.length / 2))).toBe(`a1${length}`);
    expect(encoded.length).toBe(1 + length.length / 2 + size);
  });
});

it('field units are named or reserved, with their width in bits as a package length', () => {
  const { BYTE } = aml.FIELD_ACCESS;
  const encoded = aml.fields('RGN', BYTE, aml.FIELD_UPDATE.WRITE_AS_ZEROS, [
    ['', 32],
    ['A', 1],
    ['B', 64],
  ]);
  expect(hex(encoded)).toBe(`5b8113${'52474e5f'}41${'0020'}${'415f5f5f01'}${'425f5f5f4004'}`);
});

it('methods are serialized and say how many arguments they take', () => {
  expect(hex(aml.method('_OST', 3, aml.returns(aml.arg(2))))).toBe('14085f4f53540ba46a');
});

it('a resource template is a buffer with an end tag', () => {
  expect(hex(aml.resources(aml.ioPorts(0xcd8, 12)))).toBe('110d0a0a4701d80cd80c010c7900');
  expect(hex(aml.levelInterrupt(20))).toBe('890600010114000000');
});
