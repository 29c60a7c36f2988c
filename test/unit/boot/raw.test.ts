import { describe, expect, it } from 'vitest';
import { loadImage } from '../../../src/boot/index.ts';
import { elf32, MIB, patch } from './images.ts';

const name = 'boot.bin';
const ram = () => new Uint8Array(2 * MIB);

describe('a raw image', () => {
  it('with a boot sector signature starts in real mode at 0:7c00', () => {
    const memory = ram();
    const sector = patch(new Uint8Array(512).fill(0x90), [510, 2, 0xaa55]);
    const state = loadImage(sector, memory, { name });
    expect(state).toMatchObject({ format: 'raw', mode: 'real', rip: 0x7c00, cr0: 0x10, cr4: 0, efer: 0 });
    expect(state.cs).toMatchObject({ selector: 0, base: 0, limit: 0xffff });
    expect(memory.subarray(0x7c00, 0x7e00)).toEqual(sector);
  });

  it('starts where the load address says: below 64 KiB in segment 0, above in its own paragraph', () => {
    const code = Uint8Array.of(0xf4);
    const low = loadImage(code, ram(), { name, loadAddress: 0xffff });
    expect([low.cs.selector, low.rip]).toEqual([0, 0xffff]);
    const high = loadImage(code, ram(), { name, loadAddress: 0x12345 });
    expect([high.cs.selector, high.cs.base, high.rip]).toEqual([0x1234, 0x12340, 5]);
  });

  it('is whatever the file is, once a load address is given', () => {
    const image = elf32(MIB, { paddr: MIB, contents: Uint8Array.of(0xf4) });
    expect(loadImage(image, ram(), { name, loadAddress: 0x1000 }).format).toBe('raw');
  });

  it('is not guessed: another file is an error that says what to do', () => {
    const text = new TextEncoder().encode('hello, world\n');
    expect(() => loadImage(text, ram(), { name })).toThrow(/boot\.bin: neither ELF, multiboot nor Linux.*load address/);
  });

  it.each([-1, 0x100000, (0x7c00).valueOf() + 0.5, Number.NaN])('is refused at the load address %s', (loadAddress) => {
    expect(() => loadImage(Uint8Array.of(1), ram(), { name, loadAddress })).toThrow(/load address/);
  });

  it('is refused where it would run into reserved memory', () => {
    expect(() => loadImage(new Uint8Array(0x10000), ram(), { name, loadAddress: 0x9a000 })).toThrow(
      /outside usable memory/,
    );
  });

  it('takes no command line', () => {
    expect(() => loadImage(Uint8Array.of(1), ram(), { name, loadAddress: 0, commandLine: 'x' })).toThrow(
      /no command line/,
    );
  });
});
