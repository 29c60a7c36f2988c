/**
 * The state in which the boot CPU starts, as plain data that `src/machine/` copies into KVM_SET_SREGS and KVM_SET_REGS.
 * Three shapes: real mode, 32-bit protected mode with paging off, and long mode with identity page tables.
 *
 * `protectedMode` and `longMode` put a GDT into guest RAM that agrees with the segment registers (the boot protocols say a
 * guest must load its own, but a guest that reloads a segment first should not die of it). Selectors are Linux's:
 * code 0x10, data 0x18, TSS 0x20 (Documentation/arch/x86/boot.rst, "64-bit Boot Protocol").
 */
import { type GuestMemory, LOW_ZONE } from './guest-memory.ts';

/** A segment register with its hidden part, fields as in KVM's `struct kvm_segment`; `limit` in bytes, already scaled. */
export interface Segment {
  readonly selector: number;
  readonly base: number;
  readonly limit: number;
  readonly type: number;
  readonly present: 0 | 1;
  readonly dpl: number;
  readonly db: 0 | 1;
  readonly s: 0 | 1;
  readonly l: 0 | 1;
  readonly g: 0 | 1;
}

export type RegisterName = 'rax' | 'rbx' | 'rcx' | 'rdx' | 'rsi' | 'rdi' | 'rsp' | 'rbp';
export type ImageFormat = 'multiboot' | 'linux' | 'pvh' | 'elf' | 'raw';

export interface BootState {
  readonly format: ImageFormat;
  /** What is odd about the image and did not keep it from starting: one line each, with its name. */
  readonly warnings?: readonly string[];
  /** The image is a Linux kernel, by whichever protocol. */
  readonly isLinux?: boolean;
  readonly mode: 'real' | 'protected' | 'long';
  /** Offset in the code segment; in protected and long mode that is the guest-physical address of the first instruction. */
  readonly rip: number;
  /** General registers that the boot protocol defines; all others are 0. RFLAGS is 2. */
  readonly registers: Readonly<Partial<Record<RegisterName, number>>>;
  readonly cr0: number;
  readonly cr3: number;
  readonly cr4: number;
  readonly efer: number;
  readonly cs: Segment;
  /** DS, ES, FS, GS and SS. */
  readonly data: Segment;
  readonly tr: Segment;
  /** `limit` is the register's: one less than the size in bytes. */
  readonly gdt: { readonly base: number; readonly limit: number };
}

export type BootRegisters = BootState['registers'];

const CR0 = { pe: 1 << 0, et: 1 << 4, pg: 0x8000_0000 } as const;
const CR4_PAE = 1 << 5;
const EFER = { lme: 1 << 8, lma: 1 << 10 } as const;

/** Segment types (SDM Vol. 3A, 3.4.5.1 and 3.5), with the accessed and busy bits as a loaded register has them. */
const TYPE = { code: 0xb, data: 0x3, tssBusy: 0xb, tssAvailable: 0x9, ldt: 0x2 } as const;

const FLAT = { base: 0, limit: 0xffff_ffff, present: 1, dpl: 0, s: 1, g: 1 } as const;
const PROTECTED_CODE: Segment = { ...FLAT, selector: 0x10, type: TYPE.code, db: 1, l: 0 };
const LONG_CODE: Segment = { ...PROTECTED_CODE, db: 0, l: 1 };
const DATA: Segment = { ...FLAT, selector: 0x18, type: TYPE.data, db: 1, l: 0 };
const BUSY_TSS: Segment = { ...FLAT, selector: 0x20, limit: 0x67, type: TYPE.tssBusy, s: 0, g: 0, db: 0, l: 0 };
/** Two empty descriptors, those three, and the TSS's upper half, which long mode has. */
const GDT_BYTES = 6 * 8;

/** Real mode at `segment:offset` with all data segments at 0. */
export function realMode(segment: number, offset: number): BootState {
  const real = { limit: 0xffff, present: 1, dpl: 0, db: 0, l: 0, g: 0 } as const;
  return {
    format: 'raw',
    mode: 'real',
    rip: offset,
    registers: {},
    cr0: CR0.et,
    cr3: 0,
    cr4: 0,
    efer: 0,
    cs: { ...real, selector: segment, base: segment * 16, type: TYPE.code, s: 1 },
    data: { ...real, selector: 0, base: 0, type: TYPE.data, s: 1 },
    tr: { ...real, selector: 0, base: 0, type: TYPE.tssBusy, s: 0 },
    gdt: { base: 0, limit: 0xffff },
  };
}

/** 32-bit protected mode, flat 4 GiB segments, paging off, interrupts off: what multiboot, PVH and ELF32 ask for. */
export function protectedMode(
  memory: GuestMemory,
  format: ImageFormat,
  entry: number,
  registers: BootRegisters,
): BootState {
  return flatState(memory, format, 'protected', entry, registers);
}

/** Long mode with the first 4 GiB mapped one to one: what Linux's 64-bit protocol and ELF64 ask for. */
export function longMode(memory: GuestMemory, format: ImageFormat, entry: number, registers: BootRegisters): BootState {
  const cr3 = writeIdentityPageTables(memory);
  return {
    ...flatState(memory, format, 'long', entry, registers),
    cr0: CR0.pe + CR0.et + CR0.pg,
    cr3,
    cr4: CR4_PAE,
    efer: EFER.lme | EFER.lma,
  };
}

function flatState(
  memory: GuestMemory,
  format: ImageFormat,
  mode: 'protected' | 'long',
  entry: number,
  registers: BootRegisters,
): BootState {
  const cs = mode === 'long' ? LONG_CODE : PROTECTED_CODE;
  const base = memory.allocate(GDT_BYTES, 8, LOW_ZONE, 'the boot GDT');
  for (const segment of [cs, DATA, { ...BUSY_TSS, type: TYPE.tssAvailable }]) {
    memory.setU32(base + segment.selector, descriptorLow(segment));
    memory.setU32(base + segment.selector + 4, descriptorHigh(segment));
  }
  const gdt = { base, limit: GDT_BYTES - 1 };
  return {
    format,
    mode,
    rip: entry,
    registers,
    cr0: CR0.pe + CR0.et,
    cr3: 0,
    cr4: 0,
    efer: 0,
    cs,
    data: DATA,
    tr: BUSY_TSS,
    gdt,
  };
}

/*
 * Segment descriptor (SDM Vol. 3A, 3.4.5):
 *   31        24 23 22 21 20 19  16 15 14 13 12 11   8 7         0
 *  ┌────────────┬──┬──┬──┬──┬──────┬──┬─────┬──┬──────┬───────────┐
 *  │ base 31:24 │ G│DB│ L│ 0│limit │ P│ DPL │ S│ type │base 23:16 │ high
 *  ├────────────┴──┴──┴──┴──┴──────┼──┴─────┴──┴──────┴───────────┤
 *  │ base 15:0                     │ limit 15:0                   │ low
 *  └───────────────────────────────┴──────────────────────────────┘
 */
function descriptorLow({ base, limit, g }: Segment): number {
  return ((base << 16) | (scaledLimit(limit, g) & 0xffff)) >>> 0;
}

function descriptorHigh(segment: Segment): number {
  const { base, limit, type, s, dpl, present, l, db, g } = segment;
  const attributes = (type << 8) | (s << 12) | (dpl << 13) | (present << 15) | (l << 21) | (db << 22) | (g << 23);
  return ((base & 0xff00_0000) | ((base >>> 16) & 0xff) | (scaledLimit(limit, g) & 0xf_0000) | attributes) >>> 0;
}

function scaledLimit(limit: number, g: 0 | 1): number {
  return g === 1 ? limit >>> 12 : limit;
}

const PAGE = 0x1000;
const ENTRY = { present: 1, writable: 2, large: 0x80 } as const;
const TABLES = { pml4: 0, pdpt: 1, directories: 2 } as const;
const DIRECTORIES = 4;

/** One PML4, one PDPT and four page directories of 2 MiB pages (1 GiB pages are not on every host). @returns CR3 */
function writeIdentityPageTables(memory: GuestMemory): number {
  const base = memory.allocate((TABLES.directories + DIRECTORIES) * PAGE, PAGE, LOW_ZONE, 'the boot page tables');
  const pdpt = base + TABLES.pdpt * PAGE;
  const directories = base + TABLES.directories * PAGE;
  memory.setU64(base, pdpt | ENTRY.present | ENTRY.writable);
  for (let gib = 0; gib < DIRECTORIES; gib++) {
    memory.setU64(pdpt + gib * 8, (directories + gib * PAGE) | ENTRY.present | ENTRY.writable);
  }
  for (let index = 0; index < DIRECTORIES * 512; index++) {
    memory.setU64(directories + index * 8, index * 2 ** 21 + (ENTRY.present | ENTRY.writable | ENTRY.large));
  }
  return base;
}
