/**
 * The little that is left of a PC's firmware: where a CPU goes that INIT has restarted as boot processor. The machine starts
 * an image by itself, so this code runs only when a guest resets a CPU rather than the machine (INIT by IPI, keyboard
 * controller, port 0x92, or 0xcf9 without its hard bit), or jumps to the reset vector.
 *
 * It does what the BIOS of every PC has done since the AT: if CMOS byte 0x0f says 0x0a, it jumps through the vector at
 * 0040:0067; otherwise it boots, which here is a request to the machine (src/devices/firmware-start.ts).
 *
 *     0xfffffff0  reset vector (SDM vol. 3A 10.1.4), in a page of its own below 4 GiB: a jump to F000:FF80
 *     0x000fff80  the code, in RAM where a PC's BIOS shadows itself
 *     0x000ffff0  the same jump, for guests that go to FFFF:0000
 */
import { PLATFORM } from '../platform.ts';

const START_PORT = PLATFORM.FIRMWARE.base;
/** Guest-physical bytes of the page with the reset vector. */
export const RESET_PAGE = { base: 0xffff_f000, size: 0x1000 } as const;

const SHADOW = 0xf_ff80;
export const SHADOW_BYTES = 0x80;
const VECTOR_OFFSET = 0xff0;
const SHADOW_VECTOR = 0xf_fff0;

const JUMP = [0xea, 0x80, 0xff, 0x00, 0xf0]; // ljmp $0xf000, $0xff80

// biome-ignore format: one instruction a line
const CODE = [
  0xfa,                         // cli
  0xb0, 0x0f,                   // mov $0x0f, %al
  0xe6, 0x70,                   // out %al, $0x70
  0xe4, 0x71,                   // in $0x71, %al
  0x3c, 0x0a,                   // cmp $0x0a, %al
  0x74, 0x07,                   // je resume
  0xba, START_PORT & 0xff, START_PORT >> 8, // mov $port, %dx
  0xee,                         // out %al, %dx
  0xf4,                         // 1: hlt
  0xeb, 0xfd,                   // jmp 1b
  0x31, 0xc0,                   // resume: xor %ax, %ax
  0x8e, 0xd8,                   // mov %ax, %ds
  0xff, 0x2e, 0x67, 0x04,       // ljmp *0x467
];

/** Fills the page at `RESET_PAGE`. */
export function writeResetPage(page: Uint8Array): void {
  page.set(JUMP, VECTOR_OFFSET);
}

/** @param ram guest-physical memory from 0, at least 1 MiB */
export function writeFirmware(ram: Uint8Array): void {
  ram.set(CODE, SHADOW);
  ram.set(JUMP, SHADOW_VECTOR);
}
