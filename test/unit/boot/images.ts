/** Small builders of guest images, byte by byte from the formats' specifications, so that a test can break any field. */

export const MIB = 0x100000;

/** Writes little-endian fields `[offset, bytes, value]` over `bytes`. */
export function patch(bytes: Uint8Array, ...list: readonly (readonly [offset: number, size: number, value: number])[]) {
  for (const [offset, size, value] of list) {
    for (let index = 0; index < size; index++) bytes[offset + index] = Math.floor(value / 2 ** (8 * index)) % 256;
  }
  return bytes;
}

export function le(bytes: Uint8Array, offset: number, size: number): number {
  let value = 0;
  for (let index = size - 1; index >= 0; index--) value = value * 256 + (bytes[offset + index] ?? Number.NaN);
  return value;
}

export function cStringAt(bytes: Uint8Array, address: number): string {
  return new TextDecoder().decode(bytes.subarray(address, bytes.indexOf(0, address)));
}

export interface Segment {
  readonly paddr: number;
  readonly vaddr?: number;
  readonly contents: Uint8Array;
  readonly memorySize?: number;
  /** default PT_LOAD */
  readonly type?: number;
}

/** Offsets of program header fields in the file for segment `index`; all headers follow the ELF header at once. */
export const ELF64 = {
  header: (index: number) => 64 + 56 * index,
  offset: 8,
  vaddr: 16,
  paddr: 24,
  fileSize: 32,
  memorySize: 40,
} as const;

export function elf64(entry: number, ...segments: readonly Segment[]): Uint8Array {
  return elf(64, entry, segments);
}

export function elf32(entry: number, ...segments: readonly Segment[]): Uint8Array {
  return elf(32, entry, segments);
}

function elf(bits: 32 | 64, entry: number, segments: readonly Segment[]): Uint8Array {
  const [word, ehsize, phsize] = bits === 64 ? [8, 64, 56] : [4, 52, 32];
  const dataStart = ehsize + phsize * segments.length;
  const total = segments.reduce((sum, { contents }) => sum + contents.length, dataStart);
  const file = new Uint8Array(total);
  file.set([0x7f, 0x45, 0x4c, 0x46, bits / 32, 1, 1]);
  patch(file, [16, 2, 2], [18, 2, bits === 64 ? 62 : 3], [20, 4, 1], [24, word, entry], [24 + word, word, ehsize]);
  const sizes = 24 + 3 * word + 4;
  patch(file, [sizes, 2, ehsize], [sizes + 2, 2, phsize], [sizes + 4, 2, segments.length]);
  let at = dataStart;
  segments.forEach(({ paddr, vaddr = paddr, contents, memorySize = contents.length, type = 1 }, index) => {
    const header = ehsize + phsize * index;
    const fields = bits === 64 ? header + 8 : header + 4;
    patch(file, [header, 4, type]);
    [at, vaddr, paddr, contents.length, memorySize].forEach((value, field) => {
      patch(file, [fields + word * field, word, value]);
    });
    file.set(contents, at);
    at += contents.length;
  });
  return file;
}

/** A PT_NOTE segment with the Xen PVH entry, after another vendor's note that has to be skipped. */
export function pvhNote(entry: number, descriptorBytes: 4 | 8 = 4): Segment {
  const contents = new Uint8Array(20 + 16 + descriptorBytes);
  patch(contents, [0, 4, 4], [4, 4, 1], [8, 4, 18]);
  contents.set(new TextEncoder().encode('GNU\0'), 12);
  patch(contents, [20, 4, 4], [24, 4, descriptorBytes], [28, 4, 18]);
  contents.set(new TextEncoder().encode('Xen\0'), 32);
  patch(contents, [36, descriptorBytes, entry]);
  return { paddr: 0, contents, memorySize: 0, type: 4 };
}

/** 12 bytes, or 32 with the address fields that flag 16 announces. */
export function multibootHeader(flags = 0, addresses: readonly number[] = []): Uint8Array {
  const bytes = new Uint8Array(12 + 4 * addresses.length);
  const magic = 0x1badb002;
  patch(bytes, [0, 4, magic], [4, 4, flags], [8, 4, (2 ** 33 - magic - flags) % 2 ** 32]);
  addresses.forEach((address, index) => {
    patch(bytes, [12 + 4 * index, 4, address]);
  });
  return bytes;
}

export interface BzImage {
  readonly version?: number;
  readonly loadFlags?: number;
  readonly xloadFlags?: number;
  readonly alignment?: number;
  readonly relocatable?: number;
  readonly preferredAddress?: number;
  readonly initSize?: number;
  readonly commandLineSize?: number;
  readonly initrdAddressMax?: number;
}

export const BZIMAGE_KERNEL_OFFSET = 5 * 512;

/** A bzImage whose kernel is 0x1000 bytes of 0xc0 to 0xff, and whose setup is four sectors (setup_sects 0). */
export function bzImage(options: BzImage = {}): Uint8Array {
  const kernel = Uint8Array.from({ length: 0x1000 }, (_, index) => 0xc0 | (index & 0x3f));
  const file = new Uint8Array(BZIMAGE_KERNEL_OFFSET + kernel.length);
  file.set(kernel, BZIMAGE_KERNEL_OFFSET);
  return patch(
    file,
    [0x1f1, 1, 0],
    [0x1f4, 4, kernel.length / 16],
    [0x1fe, 2, 0xaa55],
    [0x200, 2, 0x6aeb],
    [0x202, 4, 0x53726448],
    [0x206, 2, options.version ?? 0x020f],
    [0x211, 1, options.loadFlags ?? 1],
    [0x22c, 4, options.initrdAddressMax ?? 0x7fffffff],
    [0x230, 4, options.alignment ?? 0x200000],
    [0x234, 1, options.relocatable ?? 1],
    [0x235, 1, 21],
    [0x236, 2, options.xloadFlags ?? 3],
    [0x238, 4, options.commandLineSize ?? 2047],
    [0x258, 8, options.preferredAddress ?? 0x1000000],
    [0x260, 4, options.initSize ?? 0x300000],
  );
}
