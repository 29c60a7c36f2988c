import { describe, expect, it } from 'vitest';
import { loadImage } from '../../../src/boot/index.ts';
import { BZIMAGE_KERNEL_OFFSET, type BzImage, bzImage, cStringAt, le, MIB, patch } from './images.ts';

const name = 'vmlinuz';
const ram = (mib = 64) => new Uint8Array(mib * MIB);
const load = (options: BzImage, memory: Uint8Array) => loadImage(bzImage(options), memory, { name });

describe('a Linux bzImage', () => {
  it('goes to its preferred address and starts in long mode 0x200 behind it, RSI at boot_params', () => {
    const memory = ram();
    const state = load({}, memory);
    expect(state).toMatchObject({ format: 'linux', mode: 'long', rip: 0x1000200 });
    expect(state.cs.selector).toBe(0x10);
    expect(state.data.selector).toBe(0x18);
    expect(memory.subarray(0x1000000, 0x1001000)).toEqual(bzImage().subarray(BZIMAGE_KERNEL_OFFSET));
    const params = state.registers.rsi ?? 0;
    expect(params % 0x1000).toBe(0);
    expect(le(memory, params + 0x202, 4)).toBe(0x53726448);
    expect(le(memory, params + 0x210, 1)).toBe(0xff);
    expect(le(memory, params + 0x214, 4)).toBe(0x1000000);
  });

  it('gets boot_params that are zero but for the header and what the loader fills in', () => {
    const memory = ram().fill(0xaa);
    const params = load({}, memory).registers.rsi ?? 0;
    expect(le(memory, params + 0x1ef, 1)).toBe(0); // sentinel: a loader that copied too much leaves it set
    expect(memory.subarray(params, params + 0x70).every((byte) => byte === 0)).toBe(true);
    expect(memory.subarray(params + 0x26c, params + 0x2d0).every((byte) => byte === 0)).toBe(true);
  });

  it('gets command line, RSDP address and E820 table', () => {
    const memory = ram();
    const state = loadImage(bzImage(), memory, { name, commandLine: 'console=ttyS0 é', rsdpAddress: 0xe0000 });
    const params = state.registers.rsi ?? 0;
    expect(cStringAt(memory, le(memory, params + 0x228, 4))).toBe('console=ttyS0 é');
    expect(le(memory, params + 0x70, 8)).toBe(0xe0000);
    const count = le(memory, params + 0x1e8, 1);
    const entries = Array.from({ length: count }, (_, index) => {
      const at = params + 0x2d0 + 20 * index;
      return [le(memory, at, 8), le(memory, at + 8, 8), le(memory, at + 16, 4)];
    });
    expect(entries).toEqual([
      [0, 0x9fc00, 1],
      [0x9fc00, 0x400, 2],
      [0xe0000, 0x20000, 2],
      [MIB, 63 * MIB, 1],
    ]);
  });

  it('gets its initrd as high as memory and initrd_addr_max allow, page-aligned', () => {
    const initrd = { name: 'initrd.img', bytes: new Uint8Array(5000).fill(0x33) };
    for (const [max, expected] of [
      [0x7fffffff, 64 * MIB - 0x2000],
      [0x2ffffff, 0x3000000 - 0x2000],
    ] as const) {
      const memory = ram();
      const state = loadImage(bzImage({ initrdAddressMax: max }), memory, { name, modules: [initrd] });
      const params = state.registers.rsi ?? 0;
      expect(le(memory, params + 0x218, 4)).toBe(expected);
      expect(le(memory, params + 0x21c, 4)).toBe(5000);
      expect(memory.subarray(expected, expected + 5000)).toEqual(initrd.bytes);
    }
  });

  it('moves to the lowest aligned place when its preferred one is beyond memory, if it can be moved', () => {
    expect(load({}, ram(8)).rip).toBe(0x200200);
    expect(() => load({ relocatable: 0 }, ram(8))).toThrow(
      /the kernel \(0x1000000-0x1300000\) is outside usable memory/,
    );
  });

  it('needs init_size bytes of memory, not only the size of the file', () => {
    expect(() => load({ initSize: 64 * MIB }, ram())).toThrow(/no room for the kernel .*more memory/);
  });

  it('keeps the initrd off the memory that the kernel unpacks itself into', () => {
    const initrd = { name: 'initrd.img', bytes: new Uint8Array(8 * MIB) };
    const image = bzImage({ initSize: 47 * MIB });
    expect(() => loadImage(image, ram(), { name, modules: [initrd] })).not.toThrow();
    expect(() => loadImage(bzImage({ initSize: 48 * MIB }), ram(24), { name, modules: [initrd] })).toThrow(/no room/);
  });

  it('without a 64-bit entry starts in flat protected mode at its load address, ESI at boot_params', () => {
    const memory = ram();
    for (const options of [{ xloadFlags: 4 }, { version: 0x020b }]) {
      const state = load(options, memory);
      expect(state).toMatchObject({ format: 'linux', isLinux: true, mode: 'protected', rip: 0x1000000, cr0: 0x11 });
      expect([state.cs.selector, state.cs.db, state.data.selector]).toEqual([0x10, 1, 0x18]);
      expect(Object.keys(state.registers)).toEqual(['rsi']);
      expect(le(memory, (state.registers.rsi ?? 0) + 0x202, 4)).toBe(0x53726448);
    }
  });

  it('older than the fields that it would need has their defaults', () => {
    // 2.09: no pref_address, no init_size; 2.05: no cmdline_size; 2.04: not relocatable; 2.03: syssize of 16 bits.
    expect(load({ version: 0x0209, alignment: 0x1000 }, ram()).rip).toBe(MIB);
    const long = (version: number) => () =>
      loadImage(bzImage({ version }), ram(), { name, commandLine: 'x'.repeat(256) });
    expect(long(0x0206)).not.toThrow();
    expect(long(0x0205)).toThrow(/256 bytes: this kernel takes 255/);
    expect(load({ version: 0x0204, alignment: 0 }, ram()).rip).toBe(MIB);
    expect(loadImage(patch(bzImage({ version: 0x0203 }), [0x1f6, 2, 0xffff]), ram(), { name }).rip).toBe(MIB);
    const initrd = { name: 'initrd', bytes: new Uint8Array(1) };
    const memory = ram();
    const state = loadImage(bzImage({ version: 0x0202, initrdAddressMax: 0 }), memory, { name, modules: [initrd] });
    expect(le(memory, (state.registers.rsi ?? 0) + 0x218, 4)).toBe(64 * MIB - 0x1000);
  });

  it.each<[string, Uint8Array, RegExp]>([
    ['an old protocol', bzImage({ version: 0x0201 }), /boot protocol 2\.1: 2\.2 or later/],
    ['a zImage', bzImage({ loadFlags: 0 }), /a zImage/],
    ['alignment 0', bzImage({ alignment: 0 }), /kernel_alignment 0x0/],
    ['an odd alignment', bzImage({ alignment: 0x300000 }), /kernel_alignment 0x300000/],
    ['a header that ends too soon', patch(bzImage(), [0x201, 1, 0x10]), /header that ends at 0x212/],
    ['a header that runs into boot_params', patch(bzImage(), [0x201, 1, 0xff]), /header that ends at 0x301/],
    ['cut in the setup header', bzImage().subarray(0, 0x230), /truncated: the setup header/],
    ['cut before the kernel', bzImage().subarray(0, 0xa00), /truncated: the kernel/],
    ['cut in the kernel', bzImage().subarray(0, -16), /truncated: the kernel/],
    ['syssize beyond the file', patch(bzImage(), [0x1f4, 4, 0xffffffff]), /truncated: the kernel/],
    ['setup_sects beyond the file', patch(bzImage(), [0x1f1, 1, 0xff]), /truncated: the kernel/],
  ])('with %s is refused', (_, bytes, message) => {
    expect(() => loadImage(bytes, ram(), { name })).toThrow(message);
  });

  it('refuses a command line over cmdline_size (counted in bytes), and a second initrd', () => {
    const image = bzImage({ commandLineSize: 10 });
    expect(() => loadImage(image, ram(), { name, commandLine: '123456789é' })).toThrow(
      /11 bytes: this kernel takes 10/,
    );
    expect(loadImage(image, ram(), { name, commandLine: '1234567890' }).mode).toBe('long');
    const module = { name: 'x', bytes: Uint8Array.of(1) };
    expect(() => loadImage(image, ram(), { name, modules: [module, module] })).toThrow(/one initrd/);
  });
});
