/**
 * What a guest is told about physical memory: one list in E820 terms (ACPI 6.5, section 15), from which the multiboot map,
 * PVH's hvm_memmap_table_entry and Linux's boot_params.e820_table are all made.
 *
 *     0x000000 ┌─────────────────────────────┐
 *              │ usable (IVT and BIOS data   │ 0x0-0x4ff, which no loader uses for itself)
 *     0x09fc00 ├─────────────────────────────┤
 *              │ reserved: the EBDA's place  │
 *     0x0a0000 ├─────────────────────────────┤
 *              │ hole: VGA, option ROMs      │ not listed
 *     0x0e0000 ├─────────────────────────────┤
 *              │ reserved: BIOS area, ACPI   │
 *     0x100000 ├─────────────────────────────┤
 *              │ usable, to the end of RAM   │
 *              └─────────────────────────────┘
 *
 * RAM above 4 GiB is a further range at 2^32 (`highBytes`).
 */

/** E820 types (ACPI 6.5 table 15.4). */
export const MEMORY_TYPE = { usable: 1, reserved: 2, acpi: 3, acpiNvs: 4 } as const;
export type MemoryType = (typeof MEMORY_TYPE)[keyof typeof MEMORY_TYPE];

/** Guest-physical bytes `base` to `base + size` (exclusive). */
export interface MemoryRange {
  readonly base: number;
  readonly size: number;
}

export interface MemoryMapEntry extends MemoryRange {
  readonly type: MemoryType;
}

export const LOW_MEMORY_END = 0x9fc00;
export const BIOS_AREA: MemoryRange = { base: 0xe0000, size: 0x20000 };
export const ONE_MIB = 0x100000;
const EBDA: MemoryRange = { base: LOW_MEMORY_END, size: 0xa0000 - LOW_MEMORY_END };
const FOUR_GIB = 2 ** 32;

/**
 * @param ramBytes RAM from address 0, at least 1 MiB, below the PCI hole (3 GiB)
 * @param carved ranges taken out of usable RAM, with the type they get instead (ACPI tables at the end of RAM)
 * @param highBytes RAM from 4 GiB on
 * @returns entries in ascending order, none overlapping
 */
export function memoryMap(ramBytes: number, carved: readonly MemoryMapEntry[] = [], highBytes = 0): MemoryMapEntry[] {
  const usable: MemoryRange[] = [
    { base: 0, size: Math.min(ramBytes, LOW_MEMORY_END) },
    { base: ONE_MIB, size: Math.max(0, ramBytes - ONE_MIB) },
    { base: FOUR_GIB, size: highBytes },
  ];
  const free = carved.reduce<MemoryRange[]>((ranges, hole) => ranges.flatMap((range) => without(range, hole)), usable);
  return [
    ...free.filter((range) => range.size > 0).map((range) => ({ ...range, type: MEMORY_TYPE.usable })),
    { ...EBDA, type: MEMORY_TYPE.reserved },
    { ...BIOS_AREA, type: MEMORY_TYPE.reserved },
    ...carved,
  ].sort((a, b) => a.base - b.base);
}

export function overlaps(a: MemoryRange, b: MemoryRange): boolean {
  return a.base < b.base + b.size && b.base < a.base + a.size;
}

/** What is left of `range` when `hole` is cut out of it: nothing, one piece or two. */
function without(range: MemoryRange, hole: MemoryRange): MemoryRange[] {
  if (!overlaps(range, hole)) return [range];
  const end = range.base + range.size;
  const holeEnd = hole.base + hole.size;
  return [
    { base: range.base, size: Math.max(0, hole.base - range.base) },
    { base: holeEnd, size: Math.max(0, end - holeEnd) },
  ].filter((piece) => piece.size > 0);
}
