/**
 * The ELF file format as far as a boot loader needs it: header, program headers, Xen notes (System V ABI, chapter 4 and 5;
 * gABI 4.1). Reads and checks, loads nothing. Section headers are not looked at.
 */
import { hex } from '../hex.ts';
import type { ImageReader } from './image-reader.ts';

export interface ElfSegment {
  /** file bytes `offset` to `offset + fileSize` go to `paddr`, zeros follow up to `memorySize` */
  readonly offset: number;
  readonly vaddr: number;
  readonly paddr: number;
  readonly fileSize: number;
  readonly memorySize: number;
}

/** A note's descriptor: `bytes` at file offset `at`. */
export interface ElfNote {
  readonly at: number;
  readonly bytes: number;
}

export interface ElfFile {
  readonly bits: 32 | 64;
  /** e_entry: in most kernels a virtual address */
  readonly entry: number;
  /** PT_LOAD with a memory size, in file order */
  readonly segments: readonly ElfSegment[];
  /** XEN_ELFNOTE_PHYS32_ENTRY, for `pvhEntryOf` */
  readonly pvhNote: ElfNote | undefined;
  /** Has a note of Linux's own (include/linux/elfnote-lto.h, build-salt.h): every vmlinux since 4.19 does */
  readonly isLinux: boolean;
}

/** Where a field is: [offset, bytes] in the 32-bit and in the 64-bit form. */
const HEADER = {
  32: { size: 52, machine: 3, entry: 24, phoff: 28, phentsize: 42, phnum: 44, programHeader: 32 },
  64: { size: 64, machine: 62, entry: 24, phoff: 32, phentsize: 54, phnum: 56, programHeader: 56 },
} as const;
const PROGRAM_HEADER = {
  32: { offset: 4, vaddr: 8, paddr: 12, fileSize: 16, memorySize: 20, align: 28 },
  64: { offset: 8, vaddr: 16, paddr: 24, fileSize: 32, memorySize: 40, align: 48 },
} as const;
const MAGIC = 0x464c457f;
const TYPE = { executable: 2, shared: 3 } as const;
const PT = { load: 1, interpreter: 3, note: 4 } as const;
/** Far more than any kernel has; keeps a lying header from costing time. */
const MAX_PROGRAM_HEADERS = 256;
const MACHINE_NAMES: Readonly<Record<number, string>> = {
  3: 'i386',
  40: 'ARM',
  62: 'x86-64',
  183: 'AArch64',
  243: 'RISC-V',
};

const NOTE_OWNER = { xen: 'Xen\0', linux: 'Linux\0' } as const;
const XEN_ELFNOTE_PHYS32_ENTRY = 18;

export function isElf(image: ImageReader): boolean {
  return image.length >= 4 && image.u32(0, 'the magic') === MAGIC;
}

/**
 * @param warn told of notes that are malformed: a boot loader needs none but the PVH entry, so the rest of the image counts
 * @throws ImageError for anything a loader could not use: wrong machine, no segments, sizes that leave the file
 */
export function readElf(image: ImageReader, warn: (problem: string) => void): ElfFile {
  image.need(0, HEADER[32].size, 'the ELF header');
  const bits = elfClass(image);
  const header = HEADER[bits];
  const word = (offset: number, what: string) => (bits === 64 ? image.u64(offset, what) : image.u32(offset, what));
  image.need(0, header.size, 'the ELF header');

  const machine = image.u16(18, 'e_machine');
  if (machine !== header.machine) {
    const name = MACHINE_NAMES[machine] ?? `machine ${machine}`;
    throw image.error(`an ELF${bits} image for ${name}: a guest is ELF32 for i386 or ELF64 for x86-64`);
  }
  const type = image.u16(16, 'e_type');
  if (type !== TYPE.executable && type !== TYPE.shared) {
    throw image.error(`not an executable (e_type ${type}): link it first`);
  }
  const count = image.u16(header.phnum, 'e_phnum');
  const entrySize = image.u16(header.phentsize, 'e_phentsize');
  if (count === 0 || count > MAX_PROGRAM_HEADERS) {
    throw image.error(`${count} program headers (e_phnum): 1 to ${MAX_PROGRAM_HEADERS} are taken`);
  }
  if (entrySize !== header.programHeader) {
    throw image.error(`program headers of ${entrySize} bytes (e_phentsize), not ${header.programHeader}`);
  }
  const tableOffset = word(header.phoff, 'e_phoff');
  image.need(tableOffset, count * entrySize, 'the program header table');

  const segments: ElfSegment[] = [];
  let pvhNote: ElfNote | undefined;
  let isLinux = false;
  let noteBytes = 0;
  for (let index = 0; index < count; index++) {
    const at = tableOffset + index * entrySize;
    const kind = image.u32(at, 'p_type');
    if (kind === PT.interpreter) throw image.error('a dynamically linked program, not a guest image');
    if (kind !== PT.load && kind !== PT.note) continue;
    const layout = PROGRAM_HEADER[bits];
    const segment: ElfSegment = {
      offset: word(at + layout.offset, 'p_offset'),
      vaddr: word(at + layout.vaddr, 'p_vaddr'),
      paddr: word(at + layout.paddr, 'p_paddr'),
      fileSize: word(at + layout.fileSize, 'p_filesz'),
      memorySize: word(at + layout.memorySize, 'p_memsz'),
    };
    if (kind === PT.note) {
      noteBytes += segment.fileSize;
      const align = word(at + layout.align, 'p_align') === 8 ? 8 : 4;
      // The second bound keeps notes that overlap from costing time.
      const problem =
        segment.offset + segment.fileSize > image.length || noteBytes > image.length
          ? `program header ${index}'s notes are not all in the file`
          : walkNotes(image, segment, align, (owner, type, note) => {
              if (owner === NOTE_OWNER.xen && type === XEN_ELFNOTE_PHYS32_ENTRY) pvhNote ??= note;
              if (owner === NOTE_OWNER.linux) isLinux = true;
            });
      if (problem !== undefined) warn(`${problem}: they are not looked at`);
      continue;
    }
    image.need(segment.offset, segment.fileSize, `program header ${index}'s contents`);
    if (segment.fileSize > segment.memorySize) {
      throw image.error(`program header ${index} has more bytes in the file than in memory (p_filesz > p_memsz)`);
    }
    if (segment.memorySize > 0) segments.push(segment);
  }
  if (segments.length === 0) throw image.error('nothing to load: no PT_LOAD program header');
  return { bits, entry: word(header.entry, 'e_entry'), segments, pvhNote, isLinux };
}

/**
 * Guest-physical address of `entry`, which may be physical already or virtual in the terms of a segment.
 * @throws ImageError when no segment has it
 */
export function physicalEntry(image: ImageReader, elf: ElfFile, entry: number, what: string): number {
  if (elf.segments.some(({ paddr, memorySize }) => entry >= paddr && entry < paddr + memorySize)) return entry;
  const home = elf.segments.find(({ vaddr, memorySize }) => entry >= vaddr && entry < vaddr + memorySize);
  if (home === undefined) throw image.error(`${what} ${hex(entry)} is in none of the loaded segments`);
  return entry - home.vaddr + home.paddr;
}

function elfClass(image: ImageReader): 32 | 64 {
  const [fileClass, data, version] = [image.u8(4, 'EI_CLASS'), image.u8(5, 'EI_DATA'), image.u8(6, 'EI_VERSION')];
  if (data !== 1) throw image.error('not a little-endian ELF image (EI_DATA)');
  if (version !== 1) throw image.error(`unknown ELF version ${version} (EI_VERSION)`);
  if (fileClass === 1) return 32;
  if (fileClass === 2) return 64;
  throw image.error(`neither 32-bit nor 64-bit ELF (EI_CLASS ${fileClass})`);
}

/**
 * Walks one note segment: { namesz, descsz, type, name padded, desc padded }*. Padding is to 4 bytes, in segments aligned
 * to 8 (GNU property notes) to 8.
 * @returns what is wrong with it, where the walk had to end
 */
function walkNotes(
  image: ImageReader,
  notes: ElfSegment,
  align: 4 | 8,
  visit: (owner: string, type: number, note: ElfNote) => void,
): string | undefined {
  const end = notes.offset + notes.fileSize;
  const padded = (size: number) => Math.ceil(size / align) * align;
  for (let at = notes.offset; at + 12 <= end; ) {
    const nameSize = image.u32(at, 'n_namesz');
    const bytes = image.u32(at + 4, 'n_descsz');
    const type = image.u32(at + 8, 'n_type');
    const descriptor = at + padded(12 + nameSize);
    if (descriptor + bytes > end) return `the ELF note at ${hex(at)} is longer than its segment`;
    visit(latin1(image.slice(at + 12, nameSize, 'a note name')), type, { at: descriptor, bytes });
    at = descriptor + padded(bytes);
  }
  return undefined;
}

/** @returns physical address of the PVH entry that the note holds. @throws ImageError when it is no address */
export function pvhEntryOf(image: ImageReader, { at, bytes }: ElfNote): number {
  if (bytes === 4) return image.u32(at, 'the PVH entry');
  if (bytes === 8) return image.u64(at, 'the PVH entry');
  throw image.error(`the PVH entry note has ${bytes} bytes, not 4 or 8`);
}

function latin1(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes.subarray(0, 8));
}
