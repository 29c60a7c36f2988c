import { expect, test } from 'vitest';
import { writeFirmware } from '../../../src/boot/firmware.ts';
import { installAcpiTables } from '../../../src/boot/index.ts';
import { le, MIB } from './images.ts';
import { RealMode } from './real-mode.ts';

function booted(): Uint8Array {
  const ram = new Uint8Array(4 * MIB);
  installAcpiTables(ram, [{ apicId: 0, present: true }]);
  writeFirmware(ram);
  return ram;
}

// Both were 0: Xen puts its trampoline at EBDA - 64 KiB, and was lost in silence.
test('the BIOS data area tells where conventional memory ends, as the memory map does', () => {
  const ram = booted();
  expect(le(ram, 0x40e, 2) * 16).toBe(0x9fc00);
  expect(le(ram, 0x413, 2) * 1024).toBe(0x9fc00);
  expect(ram[0x9fc00]).toBe(1); // the extended area's size in KiB
});

test('the BIOS data area names COM1, 80x25 in colour and the CRT controller', () => {
  const ram = booted();
  expect([0x400, 0x410, 0x44a, 0x463].map((at) => le(ram, at, 2))).toEqual([0x3f8, 0x222, 80, 0x3d4]);
  expect([ram[0x449], ram[0x484]]).toEqual([3, 24]);
});

test('every interrupt vector points into the firmware, and none looks like a gate of protected mode', () => {
  const ram = booted();
  for (let vector = 0; vector < 256; vector++) {
    expect(le(ram, vector * 4 + 2, 2)).toBe(0xf000);
    const at = 0xf0000 + le(ram, vector * 4, 2);
    expect(at).toBeGreaterThanOrEqual(0xff000);
    expect(ram[at]).not.toBe(0);
  }
  for (let gate = 0; gate < 128; gate++) expect((ram[gate * 8 + 5] ?? 0) & 0x1f).not.toBe(0x0e);
});

/** Calls the firmware's handler for a vector. @returns what it did, once every register is back as it was */
function call(vector: number, ax: number): { out: [number, number][]; carry: boolean } {
  const ram = booted();
  const cpu = new RealMode(ram, le(ram, vector * 4, 2));
  Object.assign(cpu, { ax, dx: 0xd0d0, bp: 0xb0b0 });
  cpu.stack.push(0x0002, 0x0000, 0x1234); // FLAGS, CS and IP of the caller
  expect(cpu.run()).toMatchObject({ ax, dx: 0xd0d0, bp: 0xb0b0, end: 'iret' });
  const [flags, ...rest] = cpu.stack;
  expect(rest).toEqual([0x0000, 0x1234]);
  return { out: cpu.out, carry: ((flags ?? 0) & 1) === 1 };
}

test.each([0x00, 0x06, 0x11, 0x13, 0x15, 0x16, 0x1a, 0x40, 0x80, 0xff])(
  'INT 0x%x reports AX and its vector, sets CF and returns with every register as it was',
  (vector) => {
    expect(call(vector, 0xe820)).toEqual({
      out: [
        [0x5f2, 0xe820],
        [0x5f4, vector],
      ],
      carry: true,
    });
  },
);

test('INT 0x10 AH=0x0e sends AL to COM1; other video calls are reported', () => {
  expect(call(0x10, 0x0e41)).toEqual({ out: [[0x3f8, 0x41]], carry: false });
  expect(call(0x10, 0x0003)).toEqual({
    out: [
      [0x5f2, 0x0003],
      [0x5f4, 0x10],
    ],
    carry: true,
  });
});

test("the 8259s' interrupts are ended at the chip they came from, flags untouched", () => {
  expect(call(0x08, 0x5555)).toEqual({ out: [[0x20, 0x20]], carry: false });
  expect(call(0x70, 0x5555)).toEqual({
    out: [
      [0xa0, 0x20],
      [0x20, 0x20],
    ],
    carry: false,
  });
});

/** From the reset vector, with CMOS byte 0x0f as it is given. */
function reset(shutdownStatus: number): RealMode {
  const ram = booted();
  ram.set([0x34, 0x12, 0x00, 0x20], 0x467);
  expect([...ram.subarray(0xffff0, 0xffff5)]).toEqual([0xea, 0x80, 0xff, 0x00, 0xf0]);
  const cpu = new RealMode(ram, 0xff80);
  cpu.in = (port) => (port === 0x71 ? shutdownStatus : 0xff);
  return cpu.run();
}

// The byte stayed: the next reset resumed again rather than booted.
test('CMOS byte 0x0f is cleared before the CPU resumes at 0040:0067', () => {
  const cpu = reset(0x0a);
  expect(cpu.out).toEqual([
    [0x70, 0x0f],
    [0x71, 0],
  ]);
  expect(cpu.end).toBe(0x21234);
});

test.each([0x00, 0x05, 0xff])('with 0x%x there the machine is asked to start the image', (status) => {
  const cpu = reset(status);
  expect(cpu.out.map(([port]) => port)).toEqual([0x70, 0x71, 0x5f0]);
  expect(cpu.end).toBe('hlt');
});
