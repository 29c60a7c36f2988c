/** What a caller of `loadImage` may say about the image; every loader takes what its format has and refuses the rest. */
import type { GuestMemory } from './guest-memory.ts';
import type { ImageReader } from './image-reader.ts';
import type { MemoryMapEntry } from './memory-map.ts';

/** A file given to the guest as it is: an initrd, a multiboot or PVH module. */
export interface BootModule {
  /** path as the user gave it; multiboot and PVH guests see it as the module's string */
  readonly name: string;
  readonly bytes: Uint8Array;
}

export interface LoadOptions {
  /** Path of the image as the user gave it: for messages, and the first word of a multiboot command line. */
  readonly name: string;
  /** The image's bytes are the first of a longer file: as many as the guest's memory holds. */
  readonly isCut?: boolean;
  readonly commandLine?: string;
  /** In the order the guest shall see them; the first is the initrd. */
  readonly modules?: readonly BootModule[];
  /** Takes the image as raw real-mode code: guest-physical address of its first byte and entry, below 1 MiB. */
  readonly loadAddress?: number;
  /** What the guest is told about memory; default `memoryMap(ram.length)`. */
  readonly memoryMap?: readonly MemoryMapEntry[];
  /** Guest-physical address of the ACPI RSDP, 0 or absent when there is none. */
  readonly rsdpAddress?: number;
}

/** What each format's loader is given. */
export interface LoadContext {
  readonly image: ImageReader;
  readonly memory: GuestMemory;
  readonly commandLine: string;
  readonly modules: readonly BootModule[];
  readonly rsdpAddress: number;
  /** Something about the image that does not keep it from starting: one line, without the image's name. */
  warn(problem: string): void;
}

/** Bytes of `text` with a terminating NUL, as every protocol here wants its strings. */
export function cString(text: string): Uint8Array {
  return new TextEncoder().encode(`${text}\0`);
}

/** For formats with no place for a command line or modules: better an error than an option that does nothing. */
export function refuseExtras({ image, commandLine, modules }: LoadContext, format: string): void {
  if (commandLine !== '') throw image.error(`${format} takes no command line`);
  if (modules.length > 0) throw image.error(`${format} takes no initrd`);
}
