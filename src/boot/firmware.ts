/**
 * The little that is left of a PC's firmware. The machine starts an image by itself, so the code here runs only when a guest
 * resets a CPU rather than the machine (INIT by IPI, keyboard controller, port 0x92, or 0xcf9 without its hard bit), jumps
 * to the reset vector, or calls a BIOS that is not there.
 *
 * Reset: what the BIOS of every PC has done since the AT. If CMOS byte 0x0f says 0x0a, it is cleared and the CPU jumps through
 * the vector at 0040:0067; otherwise the firmware boots, which here is a request to the machine (src/devices/firmware.ts).
 *
 * Calls: every interrupt vector is a handler that reports the call, sets CF and returns, but for INT 10h AH=0Eh, which sends
 * AL to COM1, and the vectors of the 8259s' interrupts, which are ended.
 *
 *     0xfffffff0  reset vector (SDM vol. 3A 11.1.4), in a page of its own below 4 GiB: a jump to F000:FF80
 *     0x00000000  interrupt vectors, BIOS data area (0x400), and from 0x9fc00 on the extended one
 *     0x000ff000  a stub for each vector, and what they jump to: in RAM where a PC's BIOS shadows itself
 *     0x000fff80  the reset code      0x000ffff0  the jump to it, for guests that go to FFFF:0000
 */
import { FIRMWARE_CALL, PLATFORM } from '../platform.ts';
import { LOW_MEMORY_END } from './memory-map.ts';

/** Guest-physical bytes of the page with the reset vector. */
export const RESET_PAGE = { base: 0xffff_f000, size: 0x1000 } as const;

/** The firmware's own bytes at the end of the BIOS area. */
export const FIRMWARE_BYTES = 0x1000;
const SEGMENT = 0xf000;
/** Offsets in segment F000. */
const STUBS = 0xf000;
const HANDLERS = 0xf400;
const RESET = 0xff80;
const SHADOW_VECTOR = 0xfff0;
const VECTOR_OFFSET = 0xff0;

const VECTORS = 256;
const STUB_BYTES = 4;
const VIDEO = 0x10;
/** Where a PC's BIOS has put the interrupts of its 8259s. */
const MASTER_VECTORS = { first: 0x08, last: 0x0f } as const;
const SLAVE_VECTORS = { first: 0x70, last: 0x77 } as const;

const low = (value: number): number => value & 0xff;
const high = (value: number): number => (value >> 8) & 0xff;
const START = PLATFORM.FIRMWARE.base;
const AX_PORT = START + FIRMWARE_CALL.AX;

const JUMP = [0xea, low(RESET), high(RESET), low(SEGMENT), high(SEGMENT)]; // ljmp $0xf000, $RESET

// biome-ignore format: one instruction a line
const RESET_CODE = [
  0xfa,                         // cli
  0xb0, 0x0f,                   // mov $0x0f, %al
  0xe6, 0x70,                   // out %al, $0x70
  0xe4, 0x71,                   // in $0x71, %al
  0x88, 0xc4,                   // mov %al, %ah
  0xb0, 0x00,                   // mov $0, %al
  0xe6, 0x71,                   // out %al, $0x71
  0x80, 0xfc, 0x0a,             // cmp $0x0a, %ah
  0x74, 0x07,                   // je resume
  0xba, low(START), high(START), // mov $START, %dx
  0xee,                         // out %al, %dx
  0xf4,                         // 1: hlt
  0xeb, 0xfd,                   // jmp 1b
  0x31, 0xc0,                   // resume: xor %ax, %ax
  0x8e, 0xd8,                   // mov %ax, %ds
  0xff, 0x2e, 0x67, 0x04,       // ljmp *0x467
];

/** Reached by a call from a stub: its return address tells the vector. */
// biome-ignore format: one instruction a line
const REPORT = [
  0x55,                         // push %bp
  0x89, 0xe5,                   // mov %sp, %bp
  0x50,                         // push %ax
  0x52,                         // push %dx
  0xba, low(AX_PORT), high(AX_PORT), // mov $AX_PORT, %dx
  0xef,                         // out %ax, %dx
  0x8b, 0x46, 0x02,             // mov 2(%bp), %ax      the stub + 3
  0x2d, low(STUBS + 3), high(STUBS + 3), // sub $STUBS + 3, %ax
  0xd1, 0xe8,                   // shr %ax
  0xd1, 0xe8,                   // shr %ax
  0x83, 0xc2, FIRMWARE_CALL.VECTOR - FIRMWARE_CALL.AX, // add $2, %dx
  0xef,                         // out %ax, %dx
  0x80, 0x4e, 0x08, 0x01,       // orb $1, 8(%bp)       CF of the flags that IRET pops
  0x5a,                         // pop %dx
  0x58,                         // pop %ax
  0x5d,                         // pop %bp
  0x83, 0xc4, 0x02,             // add $2, %sp
  0xcf,                         // iret
];
/** Teletype output; all other video calls go to the stub of their vector. */
// biome-ignore format: one instruction a line
const TELETYPE = [
  0x52,                         // push %dx
  0xba, low(PLATFORM.COM1.base), high(PLATFORM.COM1.base), // mov $COM1, %dx
  0xee,                         // out %al, %dx
  0x5a,                         // pop %dx
  0xcf,                         // iret
];
const VIDEO_HANDLER = HANDLERS + REPORT.length;
const VIDEO_CODE_BYTES = 8;
// biome-ignore format: one instruction a line
const VIDEO_CODE = [
  0x80, 0xfc, 0x0e,             // cmp $0x0e, %ah
  0x74, 0x03,                   // je teletype
  0xe9, ...relative(VIDEO_HANDLER + VIDEO_CODE_BYTES, STUBS + VIDEO * STUB_BYTES), // jmp stub
  ...TELETYPE,
];
const MASTER_HANDLER = VIDEO_HANDLER + VIDEO_CODE.length;
// biome-ignore format: one instruction a line
const MASTER_CODE = [
  0x50,                         // push %ax
  0xb0, 0x20,                   // mov $0x20, %al      end of interrupt
  0xe6, PLATFORM.PIC_MASTER.base, // out %al, $0x20
  0x58,                         // pop %ax
  0xcf,                         // iret
];
const SLAVE_HANDLER = MASTER_HANDLER + MASTER_CODE.length;
// biome-ignore format: one instruction a line
const SLAVE_CODE = [
  0x50,                         // push %ax
  0xb0, 0x20,                   // mov $0x20, %al
  0xe6, PLATFORM.PIC_SLAVE.base, // out %al, $0xa0
  0xe6, PLATFORM.PIC_MASTER.base, // out %al, $0x20
  0x58,                         // pop %ax
  0xcf,                         // iret
];

/** A 16-bit displacement from the end of an instruction. */
function relative(from: number, to: number): number[] {
  return [low(to - from), high(to - from)];
}

/** `call REPORT`; one byte is left over. */
function writeStub(view: DataView, vector: number): void {
  const at = STUBS + vector * STUB_BYTES;
  view.setUint8(SEGMENT * 16 + at, 0xe8);
  view.setInt16(SEGMENT * 16 + at + 1, HANDLERS - (at + 3), true);
  view.setUint8(SEGMENT * 16 + at + 3, 0x90);
}

function handlerOf(vector: number): number {
  if (vector === VIDEO) return VIDEO_HANDLER;
  if (vector >= MASTER_VECTORS.first && vector <= MASTER_VECTORS.last) return MASTER_HANDLER;
  if (vector >= SLAVE_VECTORS.first && vector <= SLAVE_VECTORS.last) return SLAVE_HANDLER;
  return STUBS + vector * STUB_BYTES;
}

/** BIOS data area: address, width in bytes, value. */
const BIOS_DATA: readonly (readonly [address: number, bytes: 1 | 2, value: number])[] = [
  [0x400, 2, PLATFORM.COM1.base],
  [0x40e, 2, LOW_MEMORY_END >> 4], // segment of the extended BIOS data area
  [0x410, 2, 0x0222], // equipment: one serial port, 80x25 in colour, FPU
  [0x413, 2, LOW_MEMORY_END >> 10], // KiB of conventional memory
  [0x449, 1, 3], // video mode: 80x25 text
  [0x44a, 2, 80],
  [0x463, 2, PLATFORM.CRTC.base],
  [0x484, 1, 24], // rows less one
];
const EXTENDED_AREA_KIB = (0xa_0000 - LOW_MEMORY_END) >> 10;

/** Fills the page at `RESET_PAGE`. */
export function writeResetPage(page: Uint8Array): void {
  page.set(JUMP, VECTOR_OFFSET);
}

/** @param ram guest-physical memory from 0, at least 1 MiB */
export function writeFirmware(ram: Uint8Array): void {
  const view = new DataView(ram.buffer, ram.byteOffset, ram.byteLength);
  const place = (offset: number, code: readonly number[]): void => ram.set(code, SEGMENT * 16 + offset);
  for (let vector = 0; vector < VECTORS; vector++) {
    view.setUint16(vector * 4, handlerOf(vector), true);
    view.setUint16(vector * 4 + 2, SEGMENT, true);
    writeStub(view, vector);
  }
  place(HANDLERS, REPORT);
  place(VIDEO_HANDLER, VIDEO_CODE);
  place(MASTER_HANDLER, MASTER_CODE);
  place(SLAVE_HANDLER, SLAVE_CODE);
  place(RESET, RESET_CODE);
  place(SHADOW_VECTOR, JUMP);
  for (const [address, bytes, value] of BIOS_DATA) {
    if (bytes === 1) view.setUint8(address, value);
    else view.setUint16(address, value, true);
  }
  view.setUint8(LOW_MEMORY_END, EXTENDED_AREA_KIB);
}
