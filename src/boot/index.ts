/**
 * Loads a guest image into guest RAM and says in which state the boot CPU starts. With `loadAddress` the image is raw code;
 * otherwise the image itself tells, in this order:
 *
 *   1. Linux bzImage: "HdrS" at 0x202 (64-bit boot protocol, or the 32-bit one)
 *   2. multiboot 1: the header's magic in the first 8 KiB
 *   3. ELF: the PVH entry of its Xen note if it has one, else the ELF entry point (ELF32: protected mode, ELF64: long mode)
 *   4. a boot sector (55 AA at 510): raw real-mode code at 0x7c00
 *
 * Knows no KVM and no file: bytes in, bytes written to `ram`, a description out.
 */
import type { BootState } from './boot-state.ts';
import { loadElf } from './elf.ts';
import { isElf } from './elf-file.ts';
import { foreignFormat } from './foreign.ts';
import { GuestMemory } from './guest-memory.ts';
import { ImageReader } from './image-reader.ts';
import { isLinux, loadLinux } from './linux.ts';
import type { LoadContext, LoadOptions } from './load-options.ts';
import { memoryMap, ONE_MIB } from './memory-map.ts';
import { findMultibootHeader, loadMultiboot } from './multiboot.ts';
import { BOOT_SECTOR_ADDRESS, isBootSector, loadRaw } from './raw.ts';

export type { AcpiCpu } from './acpi/cpu.ts';
export { type InstalledAcpi, installAcpiTables, MAX_ACPI_CPUS } from './acpi/install.ts';
export type { BootRegisters, BootState, ImageFormat, RegisterName, Segment } from './boot-state.ts';
export { RESET_PAGE, writeFirmware, writeResetPage } from './firmware.ts';
export { ImageError } from './image-error.ts';
export type { BootModule, LoadOptions } from './load-options.ts';
export { MEMORY_TYPE, type MemoryMapEntry, type MemoryRange, memoryMap } from './memory-map.ts';

const MIN_RAM_BYTES = 2 * ONE_MIB;

/**
 * @param bytes the image file
 * @param ram guest-physical memory from address 0, at least 2 MiB, below 3 GiB; written to only where the image and the
 *   boot information go (zeroed memory is not required)
 * @throws ImageError when the image cannot be started: truncated, lying, outside memory, of no known format
 * @returns the boot CPU's state, and what is odd about the image (`warnings`)
 */
export function loadImage(bytes: Uint8Array, ram: Uint8Array, options: LoadOptions): BootState {
  const image = new ImageReader(bytes, options.name, options.isCut);
  if (ram.length < MIN_RAM_BYTES) throw image.error('needs a guest with at least 2M of memory');
  const warnings: string[] = [];
  const context: LoadContext = {
    image,
    memory: new GuestMemory(ram, options.memoryMap ?? memoryMap(ram.length), options.name),
    commandLine: options.commandLine ?? '',
    modules: options.modules ?? [],
    rsdpAddress: options.rsdpAddress ?? 0,
    warn: (problem) => warnings.push(image.error(problem).message),
  };
  const state = loaderFor(image, options.loadAddress)(context);
  return warnings.length === 0 ? state : { ...state, warnings };
}

/**
 * Can these bytes be the beginning of an image that `loadImage` starts? To be asked before a large file is read to its end.
 * @throws ImageError that names what the file is otherwise
 */
export function checkFormat(bytes: Uint8Array, name: string): void {
  loaderFor(new ImageReader(bytes, name), undefined);
}

function loaderFor(image: ImageReader, loadAddress: number | undefined): (context: LoadContext) => BootState {
  if (image.length === 0) throw image.error('the file is empty');
  if (loadAddress !== undefined) return (context) => loadRaw(context, loadAddress);
  if (isLinux(image)) return loadLinux;
  const multiboot = findMultibootHeader(image);
  if (multiboot !== undefined) return (context) => loadMultiboot(context, multiboot);
  if (isElf(image)) return loadElf;
  const foreign = foreignFormat(image);
  if (foreign !== undefined) throw image.error(foreign);
  if (isBootSector(image)) return (context) => loadRaw(context, BOOT_SECTOR_ADDRESS);
  throw image.error('neither ELF, multiboot nor Linux: to run it as raw real-mode code, give a load address (0x7c00)');
}
