import { describe, expect, it } from 'vitest';
import { ImageError, loadImage } from '../../../src/boot/index.ts';
import { cStringAt, ELF64, elf32, elf64, le, MIB, patch, pvhNote } from './images.ts';

const CODE = Uint8Array.of(0xf4, 0x90, 0x90, 0x90);
const name = 'guest.elf';
const ram = () => new Uint8Array(8 * MIB);

function problem(bytes: Uint8Array, memory = ram()): string {
  try {
    loadImage(bytes, memory, { name });
  } catch (error) {
    expect(error).toBeInstanceOf(ImageError);
    const message = String(error);
    expect(message).toMatch(/^ImageError: guest\.elf: [^\n]+$/);
    return message;
  }
  return 'loaded';
}

describe('an ELF image by its entry point', () => {
  it('ELF32 starts in flat 32-bit protected mode with paging off', () => {
    const memory = ram();
    const state = loadImage(elf32(MIB + 1, { paddr: MIB, contents: CODE }), memory, { name });
    expect(state).toMatchObject({ format: 'elf', mode: 'protected', rip: MIB + 1, cr0: 0x11, cr4: 0, efer: 0 });
    expect(state.cs).toMatchObject({ base: 0, limit: 0xffffffff, db: 1, l: 0, g: 1, s: 1, present: 1, type: 0xb });
    expect(state.data).toMatchObject({ base: 0, limit: 0xffffffff, db: 1, g: 1, s: 1, present: 1, type: 3 });
    expect(memory.subarray(MIB, MIB + 4)).toEqual(CODE);
  });

  it('ELF64 starts in long mode with the first 4 GiB mapped one to one', () => {
    const memory = ram();
    const state = loadImage(elf64(MIB, { paddr: MIB, contents: CODE }), memory, { name });
    expect(state).toMatchObject({ mode: 'long', rip: MIB, cr0: 0x80000011, cr4: 0x20, efer: 0x500 });
    expect(state.cs).toMatchObject({ db: 0, l: 1 });
    for (const address of [0, MIB, 0x3fffffff, 0xc0000000, 0xfee00020, 0xffffffff]) {
      expect(translate(memory, state.cr3, address)).toBe(address);
    }
  });

  it('has a GDT in memory that agrees with the segment registers', () => {
    for (const build of [elf32, elf64]) {
      const memory = ram();
      const state = loadImage(build(MIB, { paddr: MIB, contents: CODE }), memory, { name });
      const at = (selector: number) => [4, 0].map((half) => le(memory, state.gdt.base + selector + half, 4));
      expect(at(state.cs.selector)).toEqual([build === elf32 ? 0x00cf9b00 : 0x00af9b00, 0x0000ffff]);
      expect(at(state.data.selector)).toEqual([0x00cf9300, 0x0000ffff]);
      expect(state.gdt.limit).toBeGreaterThanOrEqual(state.tr.selector + 15);
    }
  });

  it('zeroes what memory has beyond the file, and nothing else', () => {
    const memory = ram().fill(0xaa);
    loadImage(elf32(MIB, { paddr: MIB, contents: CODE, memorySize: 0x2000 }), memory, { name });
    expect(memory.subarray(MIB + 4, MIB + 0x2000).every((byte) => byte === 0)).toBe(true);
    expect(memory[MIB + 0x2000]).toBe(0xaa);
  });

  it('loads to p_paddr and takes a virtual entry point through its segment', () => {
    const memory = ram();
    const vaddr = 0xc0100000;
    const state = loadImage(elf32(vaddr + 2, { paddr: 2 * MIB, vaddr, contents: CODE }), memory, { name });
    expect(state.rip).toBe(2 * MIB + 2);
    expect(memory.subarray(2 * MIB, 2 * MIB + 4)).toEqual(CODE);
  });

  it('refuses a command line and an initrd, which it could not pass on', () => {
    const image = elf32(MIB, { paddr: MIB, contents: CODE });
    expect(() => loadImage(image, ram(), { name, commandLine: 'x' })).toThrow(/no command line/);
    expect(() => loadImage(image, ram(), { name, modules: [{ name: 'm', bytes: CODE }] })).toThrow(/no initrd/);
  });
});

describe('a PVH image', () => {
  const image = (descriptorBytes: 4 | 8 = 4) =>
    elf64(0, { paddr: MIB, contents: CODE }, pvhNote(MIB + 2, descriptorBytes));

  it('starts in protected mode at the note, whether that has 4 or 8 bytes', () => {
    for (const size of [4, 8] as const) {
      const state = loadImage(image(size), ram(), { name });
      expect(state).toMatchObject({ format: 'pvh', mode: 'protected', rip: MIB + 2 });
    }
  });

  it('gets hvm_start_info version 1 in EBX with command line, RSDP and memory map', () => {
    const memory = ram();
    const state = loadImage(image(), memory, { name, commandLine: 'console=ttyS0', rsdpAddress: 0xe0000 });
    const info = state.registers.rbx ?? 0;
    expect([le(memory, info, 4), le(memory, info + 4, 4)]).toEqual([0x336ec578, 1]);
    expect(cStringAt(memory, le(memory, info + 24, 8))).toBe('console=ttyS0');
    expect(le(memory, info + 32, 8)).toBe(0xe0000);
    const map = le(memory, info + 40, 8);
    const entries = Array.from({ length: le(memory, info + 48, 4) }, (_, index) => {
      const at = map + 24 * index;
      return [le(memory, at, 8), le(memory, at + 8, 8), le(memory, at + 16, 4)];
    });
    expect(entries).toEqual([
      [0, 0x9fc00, 1],
      [0x9fc00, 0x400, 2],
      [0xe0000, 0x20000, 2],
      [MIB, 7 * MIB, 1],
    ]);
  });

  it('gets its initrd as the first module, page-aligned above the image', () => {
    const memory = ram();
    const bytes = Uint8Array.of(1, 2, 3);
    const state = loadImage(image(), memory, { name, modules: [{ name: 'initrd.img', bytes }] });
    const info = state.registers.rbx ?? 0;
    expect(le(memory, info + 12, 4)).toBe(1);
    const module = le(memory, info + 16, 8);
    const address = le(memory, module, 8);
    expect(address).toBe(MIB + 0x1000);
    expect(le(memory, module + 8, 8)).toBe(3);
    expect(memory.subarray(address, address + 3)).toEqual(bytes);
    expect(cStringAt(memory, le(memory, module + 16, 8))).toBe('initrd.img');
  });

  it('has no module list when there is no module', () => {
    const memory = ram();
    const info = loadImage(image(), memory, { name }).registers.rbx ?? 0;
    expect([le(memory, info + 12, 4), le(memory, info + 16, 8)]).toEqual([0, 0]);
  });
});

describe('a broken ELF image is one line that says what is wrong', () => {
  const good = () => elf64(MIB, { paddr: MIB, contents: CODE });
  const header = ELF64.header(0);

  it.each([
    ['cut in the ELF header', () => good().subarray(0, 60), /truncated: the ELF header/],
    ['cut in the program headers', () => good().subarray(0, 100), /truncated: the program header table/],
    ['cut in a segment', () => good().subarray(0, -1), /truncated: program header 0's contents/],
    ['of no known class', () => patch(good(), [4, 1, 3]), /EI_CLASS 3/],
    ['big-endian', () => patch(good(), [5, 1, 2]), /little-endian/],
    ['of an unknown version', () => patch(good(), [6, 1, 9]), /version 9/],
    ['an object file', () => patch(good(), [16, 2, 1]), /not an executable \(e_type 1\)/],
    ['for another machine', () => patch(good(), [18, 2, 183]), /AArch64/],
    ['without program headers', () => patch(good(), [56, 2, 0]), /0 program headers/],
    ['with absurdly many program headers', () => patch(good(), [56, 2, 0xffff]), /65535 program headers/],
    ['with a wrong e_phentsize', () => patch(good(), [54, 2, 32]), /32 bytes \(e_phentsize\), not 56/],
    ['with e_phoff outside', () => patch(good(), [32, 8, 2 ** 40]), /truncated: the program header table/],
    ['with e_phoff near 2^64', () => patch(good(), [32, 4, 0xffffffff], [36, 4, 0xffffffff]), /truncated/],
    ['with nothing to load', () => patch(good(), [header, 4, 0]), /no PT_LOAD/],
    ['a dynamic program', () => patch(good(), [header, 4, 3]), /dynamically linked/],
    ['more in the file than in memory', () => patch(good(), [header + ELF64.memorySize, 8, 1]), /p_filesz > p_memsz/],
    [
      'a segment over memory',
      () => patch(good(), [header + ELF64.paddr, 8, 8 * MIB - 2]),
      /outside usable memory.*more memory/,
    ],
    [
      'a segment near 2^64',
      () => patch(good(), [header + ELF64.paddr, 4, 0xfffffffe], [header + 28, 4, 0xffffffff]),
      /outside usable/,
    ],
    [
      'a memory size near 2^64',
      () => patch(good(), [header + 40, 4, 0xffffffff], [header + 44, 4, 0xffffffff]),
      /outside usable/,
    ],
    ['a segment in the BIOS area', () => patch(good(), [header + ELF64.paddr, 8, 0xe0000]), /outside usable memory/],
    ['a segment in the VGA hole', () => patch(good(), [header + ELF64.paddr, 8, 0xb8000]), /outside usable memory/],
    ['an entry outside', () => patch(good(), [24, 8, MIB + 4]), /the entry point 0x100004 is in none/],
    [
      'overlapping segments',
      () => elf64(MIB, { paddr: MIB, contents: CODE }, { paddr: MIB + 3, contents: CODE }),
      /segment 1 \(0x100003-0x100007\) overlaps segment 0/,
    ],
    [
      'a PVH entry outside',
      () => elf64(MIB, { paddr: MIB, contents: CODE }, pvhNote(7 * MIB)),
      /the PVH entry 0x700000 is in none/,
    ],
    ['a PVH note of 5 bytes', () => patchNote(24, 5), /5 bytes, not 4 or 8/],
  ])('%s', (_, build, message) => {
    expect(problem(build())).toMatch(message);
  });

  function patchNote(offset: number, value: number): Uint8Array {
    const note = pvhNote(MIB, 8);
    patch(note.contents, [offset, 4, value]);
    return elf64(MIB, { paddr: MIB, contents: CODE }, note);
  }

  it.each([
    ['a note longer than its segment', () => patchNote(24, 0xffffffff), /longer than its segment: they are not/],
    ['a note name longer than its segment', () => patchNote(20, 0xffffffff), /longer than its segment: they are not/],
    [
      'notes that leave the file',
      () => patch(patchNote(0, 4), [ELF64.header(1) + ELF64.fileSize, 8, 2 ** 40]),
      /not all/,
    ],
  ])('%s is a warning: nothing else needs it', (_, build, message) => {
    const state = loadImage(build(), ram(), { name });
    expect(state.format).toBe('elf');
    expect(state.warnings).toEqual([expect.stringMatching(message)]);
  });

  it('a multiboot 2 header is a warning: nobody gives its information', () => {
    const contents = patch(new Uint8Array(64), [16, 4, 0xe85250d6], [24, 4, 16], [28, 4, 2 ** 32 - 0xe85250d6 - 16]);
    // The first segment's bytes begin at file offset 120, a multiple of 8.
    const state = loadImage(elf64(MIB, { paddr: MIB, contents }), ram(), { name });
    expect(state.warnings).toEqual([`${name}: multiboot 2 is not spoken here: started at its ELF entry point instead`]);
    expect(loadImage(good(), ram(), { name }).warnings).toBeUndefined();
  });

  it('knows an empty file, and a guest with too little memory', () => {
    expect(problem(new Uint8Array(0))).toMatch(/empty/);
    expect(problem(good(), new Uint8Array(MIB))).toMatch(/at least 2M/);
  });

  it('keeps its message on one line whatever the file is called', () => {
    expect(() => loadImage(new Uint8Array(0), ram(), { name: 'a\nb' })).toThrow(/^a\\nb: the file is empty$/);
  });
});

/** A page walk by hand: 2 MiB pages only. */
function translate(memory: Uint8Array, cr3: number, address: number): number {
  const frame = (table: number, index: number) => le(memory, table + 8 * index, 8);
  const pml4e = frame(cr3, Math.floor(address / 2 ** 39) % 512);
  expect(pml4e % 4).toBe(3);
  const pdpte = frame(pml4e - 3, Math.floor(address / 2 ** 30) % 512);
  expect(pdpte % 4).toBe(3);
  const pde = frame(pdpte - 3, Math.floor(address / 2 ** 21) % 512);
  expect(pde % 4096).toBe(0x83);
  return pde - 0x83 + (address % 2 ** 21);
}
