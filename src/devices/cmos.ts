/** The CMOS bytes by which a PC's firmware tells the memory's size and the number of CPUs, where QEMU puts them. */

export interface CmosMemory {
  /** RAM below 4 GiB, in bytes. */
  readonly lowBytes: number;
  /** RAM from 4 GiB on, in bytes. */
  readonly highBytes: number;
  /** CPUs present at start. */
  readonly cpus: number;
}

const KIB = 1024;
const MIB = 1024 * KIB;
const BASE_MEMORY_KIB = 640;

/** Low byte first; a value that does not fit is written as the largest that does. */
function put(cmos: Uint8Array, index: number, bytes: number, value: number): void {
  const clamped = Math.min(Math.max(Math.floor(value), 0), 256 ** bytes - 1);
  for (let i = 0; i < bytes; i++) cmos[index + i] = Math.floor(clamped / 256 ** i) % 256;
}

/** Writes the bytes 0x15-0x18, 0x30-0x31, 0x34-0x35, 0x5b-0x5d and 0x5f. */
export function fillCmos(cmos: Uint8Array, memory: CmosMemory): void {
  const extendedKib = (memory.lowBytes - MIB) / KIB;
  put(cmos, 0x15, 2, BASE_MEMORY_KIB);
  put(cmos, 0x17, 2, extendedKib);
  put(cmos, 0x30, 2, extendedKib);
  put(cmos, 0x34, 2, (memory.lowBytes - 16 * MIB) / (64 * KIB));
  put(cmos, 0x5b, 3, memory.highBytes / (64 * KIB));
  put(cmos, 0x5f, 1, memory.cpus - 1);
}
