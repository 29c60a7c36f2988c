/** KVM's statistics file, restated here byte by byte: header, descriptors, values. */
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { readStats } from '../../../src/kvm/stats.ts';

const directory = mkdtempSync(join(tmpdir(), 'apiary-stats-'));
afterAll(() => rmSync(directory, { recursive: true }));
const NAME_BYTES = 48;

function statsFile(values: Readonly<Record<string, bigint>>, sizeOf = 1): Buffer {
  const names = Object.keys(values);
  const dataAt = 24 + names.length * (16 + NAME_BYTES);
  const file = Buffer.alloc(dataAt + names.length * 8);
  file.writeUInt32LE(NAME_BYTES, 4);
  file.writeUInt32LE(names.length, 8);
  file.writeUInt32LE(24, 16);
  file.writeUInt32LE(dataAt, 20);
  for (const [index, name] of names.entries()) {
    const at = 24 + index * (16 + NAME_BYTES);
    file.writeUInt16LE(sizeOf, at + 6);
    file.writeUInt32LE(index * 8, at + 8);
    file.write(name, at + 16);
    file.writeBigUInt64LE(values[name], dataAt + index * 8);
  }
  return file;
}

function read(file: Buffer, ...wanted: string[]) {
  const path = join(directory, 'stats');
  writeFileSync(path, file);
  const fd = openSync(path, 'r');
  try {
    return readStats(fd, wanted);
  } finally {
    closeSync(fd);
  }
}

test('what is asked for by name, and nothing else', () => {
  const file = statsFile({ pf_fixed: 7n, exits: 2n ** 40n, exits_of_another_kind: 3n, halt_exits: 5n });
  expect(read(file, 'exits', 'halt_exits', 'no_such')).toEqual({ exits: 2 ** 40, halt_exits: 5 });
});

test('a histogram is no counter', () => {
  expect(read(statsFile({ exits: 1n }, 32), 'exits')).toEqual({});
});

test('a file that ends early or is too large is none', () => {
  expect(() => read(statsFile({ exits: 1n }).subarray(0, 40), 'exits')).toThrow('end early');
  const large = statsFile({ exits: 1n });
  large.writeUInt32LE(0xffffffff, 8);
  expect(read(large, 'exits')).toBeUndefined();
});
