/**
 * Linux bzImage (Documentation/arch/x86/boot.rst, protocol 2.02 and later, and zero-page.rst): the protected-mode part goes to
 * its preferred address, boot_params ("zero page") and the command line to low memory, the initrd as high as the kernel
 * allows; RSI = boot_params. A kernel that says it has a 64-bit entry (2.12) is entered in long mode at the load address +
 * 0x200, any other by the 32-bit boot protocol: flat protected mode at the load address, EBP, EDI and EBX 0.
 *
 * Left out: zImages, the real-mode and EFI entries, setup_data.
 */
import { hex } from '../hex.ts';
import { type BootState, longMode, protectedMode } from './boot-state.ts';
import { LOW_ZONE } from './guest-memory.ts';
import type { ImageReader } from './image-reader.ts';
import { cString, type LoadContext } from './load-options.ts';
import { ONE_MIB } from './memory-map.ts';

/** Offsets of setup_header fields, the same in the file and in boot_params. */
const HEADER = {
  start: 0x1f1,
  setupSectors: 0x1f1,
  sysSize: 0x1f4,
  videoMode: 0x1fa,
  jumpOffset: 0x201,
  magic: 0x202,
  version: 0x206,
  loaderType: 0x210,
  loadFlags: 0x211,
  code32Start: 0x214,
  ramdiskImage: 0x218,
  ramdiskSize: 0x21c,
  commandLine: 0x228,
  initrdAddressMax: 0x22c,
  alignment: 0x230,
  relocatable: 0x234,
  xloadFlags: 0x236,
  commandLineSize: 0x238,
  preferredAddress: 0x258,
  initSize: 0x260,
  /** boot_params has something else from here on */
  limit: 0x290,
} as const;
const BOOT_PARAMS = {
  size: 0x1000,
  rsdp: 0x70,
  altMemoryKib: 0x1e0,
  e820Count: 0x1e8,
  e820: 0x2d0,
  e820Max: 128,
} as const;
const E820 = { base: 0, length: 8, type: 16, size: 20 } as const;

const MAGIC = 0x53726448; // "HdrS"
const SECTOR = 512;
const DEFAULT_SETUP_SECTORS = 4;
/** The first protocol with a command line pointer. */
const OLDEST_VERSION = 0x0202;
/** Where the fields end that a protocol has and that are read here: [from version, file offset], newest first. */
const FIELDS_END = [
  [0x020a, 0x264], // pref_address, init_size
  [0x0206, 0x23c], // cmdline_size
  [0x0205, 0x235], // kernel_alignment, relocatable_kernel
  [0x0203, 0x230], // initrd_addr_max
  [OLDEST_VERSION, 0x22c],
] as const;
const LOADED_HIGH = 1 << 0;
const XLF_KERNEL_64 = 1 << 0;
const UNDEFINED_LOADER = 0xff;
const NORMAL_VIDEO_MODE = 0xffff;
const ENTRY_64 = 0x200;
const PAGE = 0x1000;

export function isLinux(image: ImageReader): boolean {
  return image.length >= HEADER.magic + 4 && image.u32(HEADER.magic, 'the magic') === MAGIC;
}

export function loadLinux(context: LoadContext): BootState {
  const { image, memory, modules } = context;
  const header = readHeader(image);
  const kernel = placeKernel(context, header);

  const params = memory.allocate(BOOT_PARAMS.size, PAGE, LOW_ZONE, 'boot_params');
  memory.ram.set(image.slice(HEADER.start, header.end - HEADER.start, 'the setup header'), params + HEADER.start);
  memory.setU8(params + HEADER.loaderType, UNDEFINED_LOADER);
  memory.setU16(params + HEADER.videoMode, NORMAL_VIDEO_MODE);
  memory.setU32(params + HEADER.code32Start, kernel);
  memory.setU32(params + HEADER.commandLine, storeCommandLine(context, header.commandLineSize));
  const [initrd, second] = modules;
  if (second !== undefined) throw image.error('a Linux kernel takes one initrd');
  if (initrd !== undefined && initrd.bytes.length > 0) {
    const zone = {
      from: ONE_MIB,
      to: Math.min(memory.ram.length, header.initrdAddressMax + 1),
      search: 'down',
    } as const;
    const address = memory.store(initrd.bytes, PAGE, zone, `the initrd ${initrd.name}`);
    memory.setU32(params + HEADER.ramdiskImage, address);
    memory.setU32(params + HEADER.ramdiskSize, initrd.bytes.length);
  }
  memory.setU64(params + BOOT_PARAMS.rsdp, context.rsdpAddress);
  memory.setU32(params + BOOT_PARAMS.altMemoryKib, (memory.ram.length - ONE_MIB) / 1024);
  if (memory.map.length > BOOT_PARAMS.e820Max) throw image.error('the memory map has more entries than boot_params');
  memory.setU8(params + BOOT_PARAMS.e820Count, memory.map.length);
  memory.map.forEach(({ base, size, type }, index) => {
    const entry = params + BOOT_PARAMS.e820 + index * E820.size;
    memory.setU64(entry + E820.base, base);
    memory.setU64(entry + E820.length, size);
    memory.setU32(entry + E820.type, type);
  });
  const registers = { rsi: params };
  const state = header.is64bit
    ? longMode(memory, 'linux', kernel + ENTRY_64, registers)
    : protectedMode(memory, 'linux', kernel, registers);
  return { ...state, isLinux: true };
}

interface SetupHeader {
  /** file offset after its last byte */
  readonly end: number;
  /** file offset of the protected-mode kernel, which goes to the end of the file */
  readonly kernelOffset: number;
  readonly is64bit: boolean;
  readonly initrdAddressMax: number;
  readonly alignment: number;
  readonly relocatable: boolean;
  readonly commandLineSize: number;
  readonly preferredAddress: number;
  readonly initSize: number;
}

/** Reads the setup header and checks what can be checked without memory. A field older than the protocol has boot.rst's default. */
function readHeader(image: ImageReader): SetupHeader {
  const version = image.u16(HEADER.version, 'the protocol version');
  const needed = FIELDS_END.find(([since]) => version >= since)?.[1];
  if (needed === undefined) {
    throw image.error(`Linux boot protocol ${version >>> 8}.${version & 0xff}: 2.2 or later (Linux 2.4) is needed`);
  }
  image.need(0, needed, 'the setup header');
  const end = HEADER.magic + image.u8(HEADER.jumpOffset, 'the header length');
  if (end < needed || end > HEADER.limit) throw image.error(`a setup header that ends at ${hex(end)}`);
  image.need(0, end, 'the setup header');
  if ((image.u8(HEADER.loadFlags, 'loadflags') & LOADED_HIGH) === 0) throw image.error('a zImage, not a bzImage');
  const since = (first: number, read: () => number, otherwise: number) => (version >= first ? read() : otherwise);
  const alignment = since(0x0205, () => image.u32(HEADER.alignment, 'kernel_alignment'), PAGE);
  if (alignment < PAGE || (alignment & (alignment - 1)) !== 0) {
    throw image.error(`kernel_alignment ${hex(alignment)} is not a power of two of at least a page`);
  }
  const setupSectors = image.u8(HEADER.setupSectors, 'setup_sects') || DEFAULT_SETUP_SECTORS;
  const kernelOffset = (setupSectors + 1) * SECTOR;
  const is64bit = (since(0x020c, () => image.u16(HEADER.xloadFlags, 'xloadflags'), 0) & XLF_KERNEL_64) !== 0;
  // syssize counts 16-byte paragraphs, the last of which may be cut short; before 2.04 its upper half means nothing.
  const paragraphs = since(0x0204, () => image.u32(HEADER.sysSize, 'syssize'), 0);
  image.need(kernelOffset, Math.max((is64bit ? ENTRY_64 : 0) + 1, paragraphs * 16 - 15), 'the kernel');
  return {
    end,
    kernelOffset,
    is64bit,
    initrdAddressMax: since(0x0203, () => image.u32(HEADER.initrdAddressMax, 'initrd_addr_max'), 0x37ff_ffff),
    alignment,
    relocatable: since(0x0205, () => image.u8(HEADER.relocatable, 'relocatable_kernel'), 0) !== 0,
    commandLineSize: since(0x0206, () => image.u32(HEADER.commandLineSize, 'cmdline_size'), 255),
    preferredAddress: since(0x020a, () => image.u64(HEADER.preferredAddress, 'pref_address'), ONE_MIB),
    initSize: since(0x020a, () => image.u32(HEADER.initSize, 'init_size'), 0),
  };
}

/** @returns the load address: the preferred one where that fits, else (if the kernel can be moved) the lowest that does */
function placeKernel({ image, memory }: LoadContext, header: SetupHeader): number {
  const bytes = image.slice(header.kernelOffset, image.length - header.kernelOffset, 'the kernel');
  // From the load address on the kernel unpacks itself into init_size bytes, which it clears itself where it must.
  const size = Math.max(bytes.length, header.initSize);
  const { preferredAddress: preferred, alignment } = header;
  const usable = preferred >= ONE_MIB && preferred % alignment === 0 && memory.isFree(preferred, size);
  const stay = usable || !header.relocatable;
  if (stay) memory.claim(preferred, size, 'the kernel');
  const address = stay ? preferred : memory.reserve(size, alignment, memory.above(ONE_MIB), 'the kernel');
  memory.ram.set(bytes, address);
  return address;
}

function storeCommandLine({ image, memory, commandLine }: LoadContext, limit: number): number {
  const bytes = cString(commandLine);
  if (bytes.length - 1 > limit) {
    throw image.error(`a command line of ${bytes.length - 1} bytes: this kernel takes ${limit} (cmdline_size)`);
  }
  return memory.store(bytes, 1, LOW_ZONE, 'the command line');
}
