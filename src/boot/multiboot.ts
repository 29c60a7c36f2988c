/**
 * Multiboot 1 (Multiboot Specification 0.6.96): the header in the first 8 KiB, the machine state of section 3.2, the boot
 * information of section 3.3. ELF images are loaded by their program headers; with flag 16 the header's own addresses
 * are used ("a.out kludge").
 *
 * Left out: video modes (flag 2 gets a warning; there is no display), symbols, drives, APM. Modules are always page-aligned, above the image.
 */

import { hex } from '../hex.ts';
import { type BootState, protectedMode } from './boot-state.ts';
import { placeSegments } from './elf.ts';
import { isElf, physicalEntry, readElf } from './elf-file.ts';
import { foreignFormat } from './foreign.ts';
import { LOW_ZONE } from './guest-memory.ts';
import type { ImageReader } from './image-reader.ts';
import { cString, type LoadContext } from './load-options.ts';
import { LOW_MEMORY_END, MEMORY_TYPE, ONE_MIB } from './memory-map.ts';

const SEARCH_BYTES = 8192;
/** Multiboot 2 (specification 2.0, section 3.1): only to be told from an image without a header. */
const MULTIBOOT2 = { magic: 0xe85250d6, searchBytes: 32_768, align: 8, size: 16 } as const;
const HEADER_MAGIC = 0x1badb002;
const BOOT_MAGIC = 0x2badb002;
const LOADER_NAME = 'apiary';
const PAGE = 0x1000;

/** Header flags: 0-15 must be understood or the image refused, 16-31 may be ignored (section 3.1.2). */
const FLAG = { pageAlign: 1 << 0, memoryInfo: 1 << 1, video: 1 << 2, addresses: 1 << 16, mustKnow: 0xffff } as const;
const HEADER = { flags: 4, checksum: 8, header: 12, load: 16, loadEnd: 20, bssEnd: 24, entry: 28, size: 12 } as const;

const INFO = {
  flags: 0,
  memLower: 4,
  memUpper: 8,
  commandLine: 16,
  moduleCount: 20,
  modules: 24,
  mapLength: 44,
  map: 48,
  loaderName: 64,
  size: 116,
} as const;
const INFO_FLAG = { memory: 1 << 0, commandLine: 1 << 2, modules: 1 << 3, map: 1 << 6, loaderName: 1 << 9 } as const;
const MODULE = { start: 0, end: 4, string: 8, size: 16 } as const;
/** A map entry's `size` field does not count itself. */
const MAP_ENTRY = { entrySize: 0, base: 4, length: 12, type: 20, size: 24 } as const;

/** @returns the header's file offset: 4-byte aligned, magic and checksum right; undefined when there is none */
export function findMultibootHeader(image: ImageReader): number | undefined {
  const end = Math.min(image.length, SEARCH_BYTES) - HEADER.size;
  for (let at = 0; at <= end; at += 4) {
    const magic = image.u32(at, 'magic');
    if (magic !== HEADER_MAGIC) continue;
    const sum = magic + image.u32(at + HEADER.flags, 'flags') + image.u32(at + HEADER.checksum, 'checksum');
    if (sum % 2 ** 32 === 0) return at;
  }
  return undefined;
}

/** magic, architecture, header length and checksum add up to 0 */
export function hasMultiboot2Header(image: ImageReader): boolean {
  const { magic, searchBytes, align, size } = MULTIBOOT2;
  const word = (at: number) => image.u32(at, 'the multiboot 2 header');
  for (let at = 0; at + size <= Math.min(image.length, searchBytes); at += align) {
    if (word(at) === magic && (magic + word(at + 4) + word(at + 8) + word(at + 12)) % 2 ** 32 === 0) return true;
  }
  return false;
}

/** @param header what `findMultibootHeader` found */
export function loadMultiboot(context: LoadContext, header: number): BootState {
  const { image, memory } = context;
  const flags = image.u32(header + HEADER.flags, 'the multiboot flags');
  // "Must be understood", but no guest can count on a mode (3.3: the loader may give another one or none).
  if ((flags & FLAG.video) !== 0)
    context.warn('the multiboot header asks for a video mode (flag 2): there is no display');
  const unknown = flags & FLAG.mustKnow & ~(FLAG.pageAlign | FLAG.memoryInfo | FLAG.video);
  if (unknown !== 0) throw image.error(`the multiboot header demands unknown features (flags ${hex(unknown)})`);
  const { entry, end } = (flags & FLAG.addresses) !== 0 ? placeByHeader(context, header) : placeElf(context);
  const info = writeInfo(context, end);
  return protectedMode(memory, 'multiboot', entry, { rax: BOOT_MAGIC, rbx: info });
}

interface Placed {
  readonly entry: number;
  /** first address after the image */
  readonly end: number;
}

function placeElf(context: LoadContext): Placed {
  const { image } = context;
  if (!isElf(image)) {
    const without = 'a multiboot image that is neither ELF nor says where to load it (flag 16)';
    throw image.error(foreignFormat(image) ?? without); // Xen's EFI build has a multiboot header as well
  }
  const elf = readElf(image, context.warn);
  const end = placeSegments(context, elf);
  return { entry: physicalEntry(image, elf, elf.entry, 'the entry point'), end };
}

/** Section 3.1.3: the header's address fixes where the file's bytes go. */
function placeByHeader({ image, memory }: LoadContext, header: number): Placed {
  const field = (offset: number) => image.u32(header + offset, 'the multiboot address fields');
  const [headerAddress, load, loadEnd] = [field(HEADER.header), field(HEADER.load), field(HEADER.loadEnd)];
  const [bssEnd, entry] = [field(HEADER.bssEnd), field(HEADER.entry)];
  if (load > headerAddress)
    throw image.error(`multiboot load_addr ${hex(load)} is above header_addr ${hex(headerAddress)}`);
  const start = header - (headerAddress - load);
  if (start < 0) throw image.error(`multiboot load_addr ${hex(load)} is before the file's first byte`);
  const loadSize = loadEnd === 0 ? image.length - start : loadEnd - load;
  if (loadSize <= 0) throw image.error(`multiboot load_end_addr ${hex(loadEnd)} is not above load_addr ${hex(load)}`);
  const size = bssEnd === 0 ? loadSize : bssEnd - load;
  if (size < loadSize) throw image.error(`multiboot bss_end_addr ${hex(bssEnd)} is below the end of the loaded data`);
  memory.place(load, image.slice(start, loadSize, 'the data to load'), size, 'the image');
  if (entry < load || entry >= load + size)
    throw image.error(`multiboot entry_addr ${hex(entry)} is outside the image`);
  return { entry, end: load + size };
}

/** @returns guest-physical address of the boot information */
function writeInfo(context: LoadContext, imageEnd: number): number {
  const { image, memory, commandLine, modules } = context;
  const info = memory.allocate(INFO.size, 8, LOW_ZONE, 'the multiboot information');
  const text = (value: string, what: string) => memory.store(cString(value), 1, LOW_ZONE, what);
  const upper = memory.map.find(({ base, type }) => base === ONE_MIB && type === MEMORY_TYPE.usable)?.size ?? 0;
  memory.setU32(info + INFO.memLower, LOW_MEMORY_END / 1024);
  memory.setU32(info + INFO.memUpper, Math.floor(upper / 1024));
  const words = `${programName(image.name)} ${commandLine}`.trimEnd();
  memory.setU32(info + INFO.commandLine, text(words, 'the command line'));
  memory.setU32(info + INFO.loaderName, text(LOADER_NAME, 'the loader name'));

  if (modules.length > 0) {
    const zone = memory.above(imageEnd);
    const list = memory.allocate(modules.length * MODULE.size, 8, LOW_ZONE, 'the module list');
    modules.forEach(({ name, bytes }, index) => {
      const entry = list + index * MODULE.size;
      const start = memory.store(bytes, PAGE, zone, `the module ${name}`);
      memory.setU32(entry + MODULE.start, start);
      memory.setU32(entry + MODULE.end, start + bytes.length);
      memory.setU32(entry + MODULE.string, text(name, "a module's name"));
    });
    memory.setU32(info + INFO.moduleCount, modules.length);
    memory.setU32(info + INFO.modules, list);
  }

  const map = memory.allocate(memory.map.length * MAP_ENTRY.size, 8, LOW_ZONE, 'the memory map');
  memory.map.forEach(({ base, size, type }, index) => {
    const entry = map + index * MAP_ENTRY.size;
    memory.setU32(entry + MAP_ENTRY.entrySize, MAP_ENTRY.size - 4);
    memory.setU64(entry + MAP_ENTRY.base, base);
    memory.setU64(entry + MAP_ENTRY.length, size);
    memory.setU32(entry + MAP_ENTRY.type, type);
  });
  memory.setU32(info + INFO.mapLength, memory.map.length * MAP_ENTRY.size);
  memory.setU32(info + INFO.map, map);

  const always = INFO_FLAG.memory | INFO_FLAG.commandLine | INFO_FLAG.map | INFO_FLAG.loaderName;
  memory.setU32(info + INFO.flags, modules.length > 0 ? always | INFO_FLAG.modules : always);
  return info;
}

/** Guests split the command line at spaces and take the first word as their name, as QEMU and GRUB legacy pass it. */
function programName(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1).replaceAll(/\s/g, '_');
}
