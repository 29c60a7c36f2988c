/**
 * Whatever bytes an image has, `loadImage` either describes a start or throws an ImageError of one line; it writes only to
 * usable memory that the image or the loader's low area may have, and it is quick.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ImageError, type LoadOptions, loadImage } from '../../../src/boot/index.ts';
import { BootImage } from '../../../src/machine/boot-image.ts';
import { checkOptions } from '../../../src/machine/options.ts';
import { bzImage, elf32, elf64, MIB, multibootHeader, patch, pvhNote } from './images.ts';

const RAM_BYTES = 4 * MIB;
const GUARD = 0x1000;
const CODE = Uint8Array.of(0xf4, 0x90, 0x90, 0x90);
const BASE = 2 * MIB;

const SEEDS: Readonly<Record<string, Uint8Array>> = {
  elf32: elf32(BASE, { paddr: BASE, contents: CODE }, { paddr: BASE + 16, contents: CODE, memorySize: 64 }),
  elf64: elf64(BASE, { paddr: BASE, contents: CODE }, { paddr: BASE + 16, contents: CODE, memorySize: 64 }),
  pvh: elf64(BASE, { paddr: BASE, contents: CODE }, pvhNote(BASE)),
  multiboot: elf32(BASE + 12, { paddr: BASE, contents: Uint8Array.of(...multibootHeader(), 0xf4) }),
  kludge: Uint8Array.of(...multibootHeader(1 << 16, [BASE, BASE, 0, 0, BASE + 32]), ...CODE),
  linux: bzImage({ preferredAddress: BASE, initSize: 0x4000 }),
};

/** Values that break sums, signs and comparisons; and any others. */
const nasty = fc.oneof(
  fc.constantFrom(
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x9fc00,
    0xa0000,
    0xe0000,
    RAM_BYTES - 1,
    RAM_BYTES,
    0x7fffffff,
  ),
  fc.constantFrom(0x80000000, 0xfffffff0, 0xffffffff, 2 ** 32, 2 ** 63, 2 ** 64 - 2048),
  fc.integer({ min: 0, max: 0xffffffff }),
);
const change = fc.record({ where: fc.nat(), size: fc.constantFrom(1, 2, 4, 8), value: nasty });

function mutate(seed: Uint8Array, changes: readonly { where: number; size: number; value: number }[], cut: number) {
  const bytes = seed.slice();
  for (const { where, size, value } of changes) {
    // Headers are where the fields are: most changes go to the first bytes.
    const at = where % Math.min(bytes.length, where % 4 === 0 ? bytes.length : 0x280);
    patch(bytes, [at, Math.min(size, bytes.length - at), value]);
  }
  return bytes.subarray(0, bytes.length - (cut % (bytes.length + 1)));
}

const memory = Buffer.alloc(GUARD + RAM_BYTES + GUARD, 0xaa);
const PATTERN = Buffer.alloc(memory.length, 0xaa);
/** The guards, and what lies between the usable ranges. */
const UNTOUCHED = [
  [0, GUARD],
  [GUARD + 0x9fc00, GUARD + MIB],
  [GUARD + RAM_BYTES, memory.length],
] as const;

/** Loads into RAM with a guard before and behind, and checks what nobody may write to. */
function tryLoad(bytes: Uint8Array, options: Partial<LoadOptions> = {}): string {
  const ram = new Uint8Array(memory.buffer, memory.byteOffset + GUARD, RAM_BYTES);
  let result: string;
  try {
    const state = loadImage(bytes, ram, { name: 'image', ...options });
    const entry = state.cs.base + state.rip;
    expect(entry).toBeGreaterThanOrEqual(0);
    expect(entry).toBeLessThan(RAM_BYTES);
    result = state.format;
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    expect(error.message).toMatch(/^image: [^\p{Cc}]{10,400}$/u);
    result = 'error';
  }
  for (const [from, to] of UNTOUCHED) {
    if (!memory.subarray(from, to).equals(PATTERN.subarray(from, to))) throw new Error('written outside usable memory');
  }
  return result;
}

describe('a mutated image loads or is an ImageError', () => {
  it.each(Object.keys(SEEDS))('%s', (format) => {
    const seed = SEEDS[format] ?? CODE;
    const outcomes = new Map<string, number>();
    fc.assert(
      fc.property(
        fc.array(change, { maxLength: 4 }),
        fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat() }),
        (changes, cut) => {
          const outcome = tryLoad(mutate(seed, changes, cut));
          outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
        },
      ),
      { numRuns: 4000 },
    );
    expect(tryLoad(seed)).not.toBe('error');
    expect(outcomes.get('error')).toBeGreaterThan(10);
  });

  it('truncated at every length', () => {
    for (const seed of Object.values(SEEDS)) {
      for (let length = 0; length < Math.min(seed.length, 700); length++) tryLoad(seed.subarray(0, length));
    }
  });

  it('with every aligned word of its header set to the extremes', () => {
    for (const seed of Object.values(SEEDS)) {
      for (let at = 0; at + 4 <= Math.min(seed.length, 0x2a0); at += 2) {
        for (const value of [0, 1, 0x7fffffff, 0x80000000, 0xffffffff]) tryLoad(patch(seed.slice(), [at, 4, value]));
      }
    }
  });
});

it('random bytes, as any kind of image', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 2048 }),
      fc.option(fc.integer({ min: -1, max: 2 ** 33 })),
      (bytes, address) => {
        tryLoad(bytes, address === null ? {} : { loadAddress: address });
      },
    ),
    { numRuns: 500 },
  );
});

it('command lines and modules of any size', () => {
  fc.assert(
    fc.property(
      fc.nat(0xb0000),
      fc.nat(3 * MIB),
      fc.constantFrom('pvh', 'multiboot', 'linux'),
      (length, size, format) => {
        const modules = [{ name: 'm', bytes: new Uint8Array(size) }];
        tryLoad(SEEDS[format] ?? CODE, { commandLine: 'x'.repeat(length), modules });
      },
    ),
    { numRuns: 60 },
  );
});

it('an image made to be slow is not: 64 Ki program headers, notes over the whole file', () => {
  const count = 256;
  const notes = Array.from({ length: count }, () => ({ paddr: 0, contents: new Uint8Array(0), type: 4 }));
  const file = new Uint8Array(8 * MIB);
  file.set(elf64(BASE, { paddr: BASE, contents: CODE }, ...notes.slice(1)));
  for (let index = 1; index < count; index++) patch(file, [64 + 56 * index + 32, 8, file.length]);
  expect(tryLoad(file)).toBe('elf'); // the test's own time limit says that it is quick
  expect(tryLoad(patch(file, [56, 2, 0xfffe]))).toBe('error');
});

const CONFIG = checkOptions({ memory: 64 * MIB }, { maxVcpus: 1, maxVcpuId: 1, cores: 1 });
const packedRam = new Uint8Array(CONFIG.memoryBytes);

/** As `apiary run` loads an image, unpacking it. */
async function tryStart(image: Uint8Array): Promise<string> {
  try {
    return (await BootImage.read(image, {}, packedRam.length)).load(packedRam, CONFIG).format;
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    expect(error.message).toMatch(/^image: [^\p{Cc}]{10,400}$/u);
    return 'error';
  }
}

const changes = fc.array(change, { minLength: 1, maxLength: 4 });

describe('a mutated image in a gzip file, and a mutated gzip file', () => {
  it.each(Object.keys(SEEDS))('%s', async (format) => {
    const seed = SEEDS[format] ?? CODE;
    const packed = new Uint8Array(gzipSync(seed));
    const outcomes = new Set<string>();
    const mutations = fc.asyncProperty(changes, fc.boolean(), fc.nat(3), async (list, inside, cut) => {
      outcomes.add(
        await tryStart(inside ? gzipSync(mutate(seed, list, cut), { level: 1 }) : mutate(packed, list, cut)),
      );
    });
    await fc.assert(mutations, { numRuns: 100 });
    expect(outcomes).toContain('error');
    expect(await tryStart(packed)).not.toBe('error');
  });
});

/**
 * Other people's images, packed or not, in the folder that APIARY_IMAGES names, since none is in the repository:
 * APIARY_IMAGES=/boot npx vitest run --config test/vitest.config.ts test/unit/boot/fuzz.test.ts
 */
const folder = process.env.APIARY_IMAGES;
describe.skipIf(folder === undefined)("other people's images, mutated", () => {
  it.each(folder === undefined ? [] : readdirSync(folder))('%s', { timeout: 600_000 }, async (name) => {
    const file = new Uint8Array(readFileSync(join(folder ?? '', name)));
    const packed = file[0] === 0x1f;
    const seed = packed ? new Uint8Array(gunzipSync(file)) : file;
    const mutations = fc.asyncProperty(changes, fc.boolean(), fc.option(fc.nat()), async (list, inside, cut) => {
      const bytes = packed && !inside ? mutate(file, list, cut ?? 0) : mutate(seed, list, cut ?? 0);
      await tryStart(packed && inside ? gzipSync(bytes, { level: 1 }) : bytes);
    });
    await fc.assert(mutations, { numRuns: 100 });
  });
});
