/**
 * Raw images: the file's bytes at one address, entered there in real mode. Below 64 KiB that is CS:IP 0:address, as a BIOS
 * enters a boot sector; above, CS is the address's paragraph and IP the rest. Other segments are 0; there is no BIOS but what firmware.ts has.
 */

import { hex } from '../hex.ts';
import { type BootState, realMode } from './boot-state.ts';
import type { ImageReader } from './image-reader.ts';
import { type LoadContext, refuseExtras } from './load-options.ts';

export const BOOT_SECTOR_ADDRESS = 0x7c00;
const SIGNATURE = { offset: 510, value: 0xaa55 } as const;
const REAL_MODE_END = 0x10_0000;

/** A first sector that a BIOS would start. */
export function isBootSector(image: ImageReader): boolean {
  return image.length >= SIGNATURE.offset + 2 && image.u16(SIGNATURE.offset, 'the signature') === SIGNATURE.value;
}

/** @param address guest-physical, below 1 MiB */
export function loadRaw(context: LoadContext, address: number): BootState {
  refuseExtras(context, 'a raw image');
  const { image, memory } = context;
  if (!Number.isInteger(address) || address < 0 || address >= REAL_MODE_END) {
    throw image.error(`load address ${hex(address)}: real-mode code starts below ${hex(REAL_MODE_END)}`);
  }
  memory.place(address, image.bytes, image.length, 'the image');
  return address < 0x1_0000 ? realMode(0, address) : realMode(address >>> 4, address & 0xf);
}
