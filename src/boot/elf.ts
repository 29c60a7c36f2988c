/**
 * Starts an ELF image: its PT_LOAD segments go to their physical addresses (p_paddr), then
 *   - with a Xen PVH note: protected mode at the note's address, EBX = hvm_start_info (pvh.ts);
 *   - ELF32 for i386: protected mode at the entry point;
 *   - ELF64 for x86-64: long mode, first 4 GiB mapped one to one, at the entry point.
 * Without PVH there is no protocol: no stack, no memory map, so no command line and no modules either.
 */
import { type BootState, longMode, protectedMode } from './boot-state.ts';
import { type ElfFile, physicalEntry, pvhEntryOf, readElf } from './elf-file.ts';
import { type LoadContext, refuseExtras } from './load-options.ts';
import { hasMultiboot2Header } from './multiboot.ts';
import { writePvhStartInfo } from './pvh.ts';

export function loadElf(context: LoadContext): BootState {
  const { image, memory } = context;
  const elf = readElf(image, context.warn);
  const imageEnd = placeSegments(context, elf);
  if (elf.pvhNote !== undefined) {
    const entry = physicalEntry(image, elf, pvhEntryOf(image, elf.pvhNote), 'the PVH entry');
    const state = protectedMode(memory, 'pvh', entry, { rbx: writePvhStartInfo(context, imageEnd) });
    return { ...state, isLinux: elf.isLinux };
  }
  if (hasMultiboot2Header(image))
    context.warn('multiboot 2 is not spoken here: started at its ELF entry point instead');
  refuseExtras(context, 'an ELF image without a multiboot header or PVH note');
  const entry = physicalEntry(image, elf, elf.entry, 'the entry point');
  return elf.bits === 64 ? longMode(memory, 'elf', entry, {}) : protectedMode(memory, 'elf', entry, {});
}

/** @returns the first address after the highest segment */
export function placeSegments({ image, memory }: LoadContext, elf: ElfFile): number {
  elf.segments.forEach(({ offset, fileSize, paddr, memorySize }, index) => {
    memory.place(paddr, image.slice(offset, fileSize, 'a segment'), memorySize, `segment ${index}`);
  });
  return Math.max(...elf.segments.map(({ paddr, memorySize }) => paddr + memorySize));
}
