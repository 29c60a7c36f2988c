import { describe, expect, it } from 'vitest';
import { loadImage } from '../../../src/boot/index.ts';
import { cStringAt, elf32, elf64, le, MIB, multibootHeader, patch, pvhNote } from './images.ts';

const name = 'tests/apic test.flat';
const ram = () => new Uint8Array(8 * MIB);
const BASE = 4 * MIB;

/** An image that is its own header at `headerOffset`, loaded by flag 16, with the entry behind the header. */
function kludge(
  over: Partial<Record<'header' | 'load' | 'loadEnd' | 'bssEnd' | 'entry', number>> = {},
  headerOffset = 16,
) {
  const file = new Uint8Array(0x400).fill(0x90);
  const at = { header: BASE + headerOffset, load: BASE, loadEnd: 0, bssEnd: 0, entry: BASE + 0x40, ...over };
  file.set(multibootHeader(1 << 16, [at.header, at.load, at.loadEnd, at.bssEnd, at.entry]), headerOffset);
  return file;
}

describe('a multiboot ELF image', () => {
  const image = (flags = 0) =>
    elf32(BASE + 12, { paddr: BASE, contents: Uint8Array.of(...multibootHeader(flags), 0xf4) });

  it('starts in flat protected mode with the magic in EAX and the information in EBX', () => {
    const memory = ram();
    const state = loadImage(image(), memory, { name, commandLine: 'a b' });
    expect(state).toMatchObject({ format: 'multiboot', mode: 'protected', rip: BASE + 12, cr0: 0x11 });
    expect(state.registers.rax).toBe(0x2badb002);
    const info = state.registers.rbx ?? 0;
    expect(le(memory, info, 4)).toBe((1 << 0) | (1 << 2) | (1 << 6) | (1 << 9));
    expect(le(memory, info + 4, 4)).toBe(639);
    expect(le(memory, info + 8, 4)).toBe(7 * 1024);
    expect(cStringAt(memory, le(memory, info + 16, 4))).toBe('apic_test.flat a b');
    expect(cStringAt(memory, le(memory, info + 64, 4))).toBe('apiary');
  });

  it('may be ELF64: the loader starts it in 32-bit mode all the same', () => {
    const image64 = elf64(BASE + 12, { paddr: BASE, contents: Uint8Array.of(...multibootHeader(), 0xf4) });
    expect(loadImage(image64, ram(), { name })).toMatchObject({ format: 'multiboot', mode: 'protected' });
  });

  it('gets a memory map of 24-byte entries whose size field says 20', () => {
    const memory = ram();
    const info = loadImage(image(), memory, { name }).registers.rbx ?? 0;
    const map = le(memory, info + 48, 4);
    const count = le(memory, info + 44, 4) / 24;
    const entries = Array.from({ length: count }, (_, index) => {
      const at = map + 24 * index;
      return [le(memory, at, 4), le(memory, at + 4, 8), le(memory, at + 12, 8), le(memory, at + 20, 4)];
    });
    expect(entries).toEqual([
      [20, 0, 0x9fc00, 1],
      [20, 0x9fc00, 0x400, 2],
      [20, 0xe0000, 0x20000, 2],
      [20, MIB, 7 * MIB, 1],
    ]);
  });

  it('gets its modules page-aligned above the image, in order, with start, end and string', () => {
    const memory = ram();
    const modules = [
      { name: 'env', bytes: new TextEncoder().encode('NR_CPUS=4\n') },
      { name: 'two', bytes: new Uint8Array(0x1001).fill(7) },
      { name: 'three', bytes: Uint8Array.of(9) },
    ];
    const info = loadImage(image(1), memory, { name, modules }).registers.rbx ?? 0;
    expect(le(memory, info, 4) & 8).toBe(8);
    expect(le(memory, info + 20, 4)).toBe(3);
    const list = le(memory, info + 24, 4);
    const starts = modules.map(({ name: text, bytes }, index) => {
      const [start, end] = [le(memory, list + 16 * index, 4), le(memory, list + 16 * index + 4, 4)];
      expect(memory.subarray(start, end)).toEqual(bytes);
      expect(cStringAt(memory, le(memory, list + 16 * index + 8, 4))).toBe(text);
      return start;
    });
    expect(starts).toEqual([BASE + 0x1000, BASE + 0x2000, BASE + 0x4000]);
  });

  it('says so when a module does not fit', () => {
    const modules = [{ name: 'huge', bytes: new Uint8Array(5 * MIB) }];
    expect(() => loadImage(image(), ram(), { name, modules })).toThrow(/no room for the module huge .*more memory/);
  });

  it('that asks for a video mode gets a warning and no mode', () => {
    const memory = ram();
    const state = loadImage(image(4), memory, { name });
    expect(state.warnings).toEqual([expect.stringMatching(/asks for a video mode .*there is no display$/)]);
    expect(le(memory, state.registers.rbx ?? 0, 4) & ((1 << 11) | (1 << 12))).toBe(0);
    expect(loadImage(image(0), memory, { name }).warnings).toBeUndefined();
  });

  it('with a broken PVH note or other notes starts: it needs none', () => {
    const note = pvhNote(MIB, 8);
    patch(note.contents, [24, 4, 5]);
    const segment = { paddr: BASE, contents: Uint8Array.of(...multibootHeader(), 0xf4) };
    expect(loadImage(elf32(BASE + 12, segment, note), ram(), { name }).warnings).toBeUndefined();
    patch(note.contents, [24, 4, 0xffff]);
    const { format, warnings } = loadImage(elf32(BASE + 12, segment, note), ram(), { name });
    expect([format, warnings?.length]).toEqual(['multiboot', 1]);
  });

  it('is refused when it demands what is not here', () => {
    expect(() => loadImage(image(0x100), ram(), { name })).toThrow(/unknown features \(flags 0x100\)/);
    expect(loadImage(image(0x80000003), ram(), { name }).format).toBe('multiboot');
  });
});

describe('a multiboot image with address fields (a.out kludge)', () => {
  it('goes where the header says, to the end of the file when load_end_addr is 0', () => {
    const memory = ram().fill(0xaa);
    const state = loadImage(kludge(), memory, { name });
    expect(state.rip).toBe(BASE + 0x40);
    expect(memory[BASE + 0x3ff]).toBe(0x90);
    expect(memory[BASE + 0x400]).toBe(0xaa);
  });

  it('loads from before the header, up to load_end_addr, and clears up to bss_end_addr', () => {
    const memory = ram().fill(0xaa);
    loadImage(kludge({ load: BASE + 8, loadEnd: BASE + 0x100, bssEnd: BASE + 0x800 }), memory, { name });
    expect(memory[BASE + 7]).toBe(0xaa);
    expect(memory[BASE + 8]).toBe(0x90);
    expect(memory[BASE + 0xff]).toBe(0x90);
    expect(memory.subarray(BASE + 0x100, BASE + 0x800).every((byte) => byte === 0)).toBe(true);
    expect(memory[BASE + 0x800]).toBe(0xaa);
  });

  it.each([
    ['load_addr above header_addr', kludge({ load: BASE + 17 }), /load_addr 0x400011 is above header_addr/],
    ['load_addr before the file', kludge({ load: BASE - 4 }), /before the file's first byte/],
    ['load_end_addr beyond the file', kludge({ loadEnd: BASE + 0x401 }), /truncated: the data to load/],
    ['load_end_addr below load_addr', kludge({ loadEnd: BASE - 1 }), /not above load_addr/],
    ['bss_end_addr below the data', kludge({ bssEnd: BASE + 0x3ff }), /bss_end_addr/],
    ['bss_end_addr over memory', kludge({ bssEnd: 0xffffffff }), /outside usable memory/],
    ['an entry outside', kludge({ entry: BASE + 0x400 }), /entry_addr 0x400400 is outside/],
    ['an entry before it', kludge({ entry: BASE - 1 }), /outside the image/],
    ['cut in the address fields', kludge().subarray(0, 40), /truncated: the multiboot address fields/],
  ])('with %s is refused', (_, bytes, message) => {
    expect(() => loadImage(bytes, ram(), { name })).toThrow(message);
  });
});

describe('the multiboot header', () => {
  it('is found at the last place in the first 8 KiB, and not after it', () => {
    const at = (offset: number) => {
      const contents = new Uint8Array(0x3000);
      contents.set(multibootHeader(), offset - 84);
      return elf32(BASE, { paddr: BASE, contents });
    };
    expect(loadImage(at(8192 - 12), ram(), { name }).format).toBe('multiboot');
    expect(loadImage(at(8192 - 8), ram(), { name }).format).toBe('elf');
  });

  it('needs 4-byte alignment and a right checksum', () => {
    const contents = new Uint8Array(64);
    contents.set(multibootHeader(), 1);
    expect(loadImage(elf32(BASE, { paddr: BASE, contents }), ram(), { name }).format).toBe('elf');
    const wrong = patch(multibootHeader(), [8, 1, 0]);
    expect(loadImage(elf32(BASE, { paddr: BASE, contents: wrong }), ram(), { name }).format).toBe('elf');
  });

  it('without address fields needs an ELF image around it', () => {
    expect(() => loadImage(multibootHeader(), ram(), { name })).toThrow(/neither ELF nor says where/);
  });
});
