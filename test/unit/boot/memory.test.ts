import { describe, expect, it } from 'vitest';
import { GuestMemory } from '../../../src/boot/guest-memory.ts';
import { ImageError, MEMORY_TYPE, memoryMap } from '../../../src/boot/index.ts';
import { MIB } from './images.ts';

describe('the memory map', () => {
  it('lists RAM above 4 GiB as a range of its own', () => {
    expect(memoryMap(3 * 1024 * MIB, [], 512 * MIB).at(-1)).toEqual({ base: 2 ** 32, size: 512 * MIB, type: 1 });
  });

  it('cuts a carved range out of the middle of RAM', () => {
    const carved = { base: 2 * MIB, size: MIB, type: MEMORY_TYPE.acpiNvs };
    expect(memoryMap(8 * MIB, [carved]).slice(3)).toEqual([
      { base: MIB, size: MIB, type: 1 },
      carved,
      { base: 3 * MIB, size: 5 * MIB, type: 1 },
    ]);
  });

  it('is ascending and without overlap or empty range for every place of a carved range', () => {
    for (const base of [0, 0x1000, 0x9f000, 0xa0000, MIB, MIB + 1, 7 * MIB]) {
      const map = memoryMap(8 * MIB, [{ base, size: MIB / 16, type: MEMORY_TYPE.acpi }]).filter(
        ({ type }) => type !== 2,
      );
      map.forEach(({ base: start, size }, index) => {
        expect(size).toBeGreaterThan(0);
        expect(start + size).toBeLessThanOrEqual(map[index + 1]?.base ?? 8 * MIB);
      });
    }
  });
});

describe('guest memory', () => {
  const memory = () => new GuestMemory(new Uint8Array(2 * MIB), memoryMap(2 * MIB), 'image');
  const zone = { from: MIB, to: 2 * MIB, search: 'up' } as const;

  it('finds the lowest and the highest aligned place between claims', () => {
    const ram = memory();
    ram.claim(MIB, 0x1001, 'a');
    ram.claim(2 * MIB - 0x800, 0x10, 'b');
    expect(ram.reserve(0x1000, 0x1000, zone, 'c')).toBe(MIB + 0x2000);
    expect(ram.reserve(0x1000, 0x1000, { ...zone, search: 'down' }, 'd')).toBe(2 * MIB - 0x2000);
    expect(ram.reserve(0x7f0, 1, { ...zone, search: 'down' }, 'e')).toBe(2 * MIB - 0x7f0);
    expect(ram.reserve(0xfff, 1, zone, 'f')).toBe(MIB + 0x1001);
  });

  it('takes the last byte, and not one more', () => {
    const ram = memory();
    expect(ram.reserve(MIB, 1, zone, 'all')).toBe(MIB);
    expect(() => ram.reserve(1, 1, zone, 'more')).toThrow(ImageError);
    expect(() => ram.claim(2 * MIB - 1, 2, 'x')).toThrow(ImageError);
  });

  it('never spans the hole below 1 MiB', () => {
    const size = 0xa0000;
    expect(memory().reserve(size, 1, { from: 0, to: 2 * MIB, search: 'up' }, 'x')).toBe(MIB);
  });

  it('clears what it allocates', () => {
    const ram = new GuestMemory(new Uint8Array(2 * MIB).fill(0xaa), memoryMap(2 * MIB), 'image');
    const base = ram.allocate(16, 16, zone, 'x');
    expect(ram.ram.subarray(base, base + 17)).toEqual(Uint8Array.of(...new Uint8Array(16), 0xaa));
  });
});
