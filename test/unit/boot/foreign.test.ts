import { describe, expect, it } from 'vitest';
import { checkFormat, loadImage } from '../../../src/boot/index.ts';
import { MIB, multibootHeader, patch } from './images.ts';

const encoder = new TextEncoder();

/** A file of `size` bytes 0xcc with `parts` at their offsets. */
function file(size: number, ...parts: readonly (readonly [offset: number, bytes: string | readonly number[]])[]) {
  const bytes = new Uint8Array(size).fill(0xcc);
  for (const [offset, part] of parts) bytes.set(typeof part === 'string' ? encoder.encode(part) : part, offset);
  return bytes;
}

/** The PE headers of an EFI application (subsystem 10) or of a Windows program (3). */
function pe(subsystem: number): Uint8Array {
  return patch(file(0x400, [0, 'MZ'], [0x80, 'PE\0\0']), [0x3c, 4, 0x80], [0x80 + 24 + 68, 2, subsystem]);
}

function multibootPe(): Uint8Array {
  const bytes = pe(10);
  bytes.set(multibootHeader(), 0x200);
  return bytes;
}

const BOOTABLE = [510, [0x55, 0xaa]] as const;
const partitioned = (size: number) => file(size, BOOTABLE, [446, [0x80, 0, 1, 1, 0x83]]);

describe('a file that is no guest image is called what it is', () => {
  it.each<[string, Uint8Array, RegExp]>([
    ['an EFI application', pe(10), /an EFI application: there is no UEFI here/],
    ['an EFI application with a multiboot header', multibootPe(), /an EFI application/],
    ['a Windows program', pe(3), /a program for DOS or Windows/],
    ['a DOS program', file(64, [0, 'MZ']), /a program for DOS or Windows/],
    ['an ISO', file(0x9000, [0x8001, 'CD001']), /an ISO 9660 image: there is no disk/],
    ['an ISO that boots from a USB stick, too', file(0x9000, [0x8001, 'CD001'], BOOTABLE), /an ISO 9660 image/],
    ['a GPT disk', file(MIB, BOOTABLE, [512, 'EFI PART']), /a GPT disk image: there is no disk/],
    ['an MBR disk', partitioned(4 * MIB), /a disk image: there is no disk/],
    ['a qcow2 disk', file(512, [0, [0x51, 0x46, 0x49, 0xfb]]), /a qcow2 disk image/],
    ['an ext4 file system', file(4096, [0x438, [0x53, 0xef]]), /an ext file system/],
    ['OVMF', file(0x10000, [0x28, '_FVH']), /a UEFI firmware volume: it starts from ROM/],
    ['SeaBIOS', file(0x20000, [0x1fff0, [0xea, 0x5b, 0xe0, 0x00, 0xf0]]), /a firmware image: it starts from ROM/],
    ['coreboot without its archive', file(0x10000, [0xfff0, [0x0f, 0x09, 0xe9]]), /a firmware image/],
    ['an option ROM', file(0x8000, [0, [0x55, 0xaa, 0x40]]), /an option ROM/],
    ['an initrd', file(512, [0, '070701']), /a cpio archive: give it with --initrd/],
    ['a kernel packed by xz', file(64, [0, [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0]]), /packed by xz: unpack it first/],
    ['a kernel packed by zstd', file(64, [0, [0x28, 0xb5, 0x2f, 0xfd]]), /packed by zstd/],
    ['a Debian package', file(64, [0, '!<arch>\n']), /a Debian package/],
    ['an AArch64 kernel', file(128, [0x38, 'ARM\x64']), /an AArch64 Linux kernel: a guest here is x86/],
    ['a script', encoder.encode('#!/bin/sh\n'), /a script/],
    ['an empty disk', new Uint8Array(MIB), /nothing but zeros/],
  ])('%s', (_, bytes, message) => {
    expect(() => loadImage(bytes, new Uint8Array(8 * MIB), { name: 'x' })).toThrow(message);
  });

  it('which is known from its head alone', () => {
    expect(() => checkFormat(pe(10), 'x')).toThrow(/an EFI application/);
    expect(() => checkFormat(partitioned(512), 'x')).not.toThrow();
  });

  it('but a boot sector starts, with a partition table and with all that fits below 640K', () => {
    for (const size of [512, 0x9_8000]) {
      expect(loadImage(partitioned(size), new Uint8Array(8 * MIB), { name: 'x' })).toMatchObject({ rip: 0x7c00 });
    }
  });

  it('and what can be started is, whatever else it looks like', () => {
    const both = file(0x9000, [0x8001, 'CD001'], [16, [...multibootHeader(1 << 16, [MIB + 16, MIB, 0, 0, MIB + 48])]]);
    expect(loadImage(both, new Uint8Array(8 * MIB), { name: 'x' }).format).toBe('multiboot');
    expect(loadImage(pe(10), new Uint8Array(8 * MIB), { name: 'x', loadAddress: 0x7c00 }).format).toBe('raw');
  });
});
