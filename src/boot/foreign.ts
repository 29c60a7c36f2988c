/**
 * Files that people give to a boot loader and that none here can start, known by the bytes they have, so that each can be
 * called what it is: what it needs that is not here, and what to do instead. Bytes: the formats' own specifications.
 */
import type { ImageReader } from './image-reader.ts';

/** Bytes from the start that are enough to know any of these, or an image that can be started. */
export const HEAD_BYTES = 0x9000;

const NO_DISK = 'there is no disk or CD drive here; take the kernel and the initrd out of it';
const NO_FIRMWARE = 'it starts from ROM at the reset vector, and there is no ROM here; give a kernel';
const UNPACK = 'unpack it first';
const KERNEL_FIRST = 'give it with --initrd, and a kernel as the image';
const NOT_X86 = 'a guest here is x86';

/** [what it is, what to do, offset, bytes as text (latin1)] */
type Signature = readonly [what: string, advice: string, offset: number, bytes: string];

const SIGNATURES: readonly Signature[] = [
  ['an ISO 9660 image', NO_DISK, 0x8001, 'CD001'],
  ['a GPT disk image', NO_DISK, 0x200, 'EFI PART'],
  ['a qcow2 disk image', NO_DISK, 0, 'QFI\xfb'],
  ['a VMDK disk image', NO_DISK, 0, 'KDMV'],
  ['a VMDK disk descriptor', NO_DISK, 0, '# Disk DescriptorFile'],
  ['a VDI disk image', NO_DISK, 0x40, '\x7f\x10\xda\xbe'],
  ['a VHD disk image', NO_DISK, 0, 'conectix'],
  ['a VHDX disk image', NO_DISK, 0, 'vhdxfile'],
  ['an ext file system', NO_DISK, 0x438, '\x53\xef'],
  ['a squashfs file system', NO_DISK, 0, 'hsqs'],
  ['a UEFI firmware volume', NO_FIRMWARE, 0x28, '_FVH'],
  ['a coreboot image', NO_FIRMWARE, 0, 'LARCHIVE'],
  ['a cpio archive', KERNEL_FIRST, 0, '070701'],
  ['a cpio archive', KERNEL_FIRST, 0, '070702'],
  ['a file packed by xz', UNPACK, 0, '\xfd7zXZ\0'],
  ['a file packed by bzip2', UNPACK, 0, 'BZh'],
  ['a file packed by zstd', UNPACK, 0, '\x28\xb5\x2f\xfd'],
  ['a file packed by lz4', UNPACK, 0, '\x04\x22\x4d\x18'],
  ['a file packed by lz4', UNPACK, 0, '\x02\x21\x4c\x18'],
  ['a file packed by lzma', UNPACK, 0, '\x5d\0\0'],
  ['a file packed by lzop', UNPACK, 0, '\x89LZO\0'],
  ['a gzip file in a gzip file', UNPACK, 0, '\x1f\x8b'],
  ['a zip archive', UNPACK, 0, 'PK\x03\x04'],
  ['a tar archive', UNPACK, 257, 'ustar'],
  ['a Debian package or ar archive', UNPACK, 0, '!<arch>'],
  ['an RPM package', UNPACK, 0, '\xed\xab\xee\xdb'],
  ['a U-Boot image', 'give the kernel that is in it', 0, '\x27\x05\x19\x56'],
  ['a device tree or FIT image', 'give the kernel that is in it', 0, '\xd0\x0d\xfe\xed'],
  ['an AArch64 Linux kernel', NOT_X86, 0x38, 'ARM\x64'],
  ['a RISC-V Linux kernel', NOT_X86, 0x38, 'RSC\x05'],
  ['a Mach-O program', 'link the guest as ELF', 0, '\xcf\xfa\xed\xfe'],
  ['a script', 'give a kernel', 0, '#!'],
];

const PE = { pointer: 0x3c, signature: 0x4550, subsystem: 24 + 68, efi: [10, 11, 12, 13] } as const;
const OPTION_ROM = 0xaa55;
/** What stands 16 bytes before the end of a PC's ROM: a far jump to F000, or (TianoCore, coreboot) a near one behind two bytes. */
const ROM = {
  atLeast: 0x1_0000,
  resetVector: 16,
  farJump: 0xea,
  segment: 0xf000,
  near: ['\x90\x90\xe9', '\x0f\x09\xe9'],
} as const;
/** What raw code may have from 0x7c00 on: a longer "boot sector" is the first one of a disk. */
const LARGEST_BOOT_SECTOR = 0x9_8000;

/** @returns what the file is and what to do, when it is known and no loader's */
export function foreignFormat(image: ImageReader): string | undefined {
  const known = SIGNATURES.find(([, , offset, bytes]) => has(image, offset, bytes));
  if (known) return `${known[0]}: ${known[1]}`;
  return windowsProgram(image) ?? rom(image) ?? disk(image) ?? zeros(image);
}

function has(image: ImageReader, offset: number, bytes: string): boolean {
  if (image.length < offset + bytes.length) return false;
  for (let index = 0; index < bytes.length; index++) {
    if (image.bytes[offset + index] !== bytes.charCodeAt(index)) return false;
  }
  return true;
}

function windowsProgram(image: ImageReader): string | undefined {
  if (!has(image, 0, 'MZ') || image.length < PE.pointer + 4) return undefined;
  const header = image.u32(PE.pointer, 'e_lfanew');
  const isPe = header + PE.subsystem + 2 <= image.length && image.u32(header, 'the signature') === PE.signature;
  if (isPe && PE.efi.some((each) => each === image.u16(header + PE.subsystem, 'the subsystem'))) {
    return 'an EFI application: there is no UEFI here; give the kernel as bzImage, ELF or multiboot';
  }
  return 'a program for DOS or Windows: give a kernel as bzImage, ELF or multiboot';
}

function rom(image: ImageReader): string | undefined {
  const { length, bytes } = image;
  if (length >= 3 && image.u16(0, 'the magic') === OPTION_ROM) return `an option ROM: ${NO_FIRMWARE}`;
  if (length < ROM.atLeast || (length & (length - 1)) !== 0) return undefined;
  const entry = length - ROM.resetVector;
  const isFar = bytes[entry] === ROM.farJump && image.u16(entry + 3, 'the segment') === ROM.segment;
  return isFar || ROM.near.some((jump) => has(image, entry, jump)) ? `a firmware image: ${NO_FIRMWARE}` : undefined;
}

function disk(image: ImageReader): string | undefined {
  return has(image, 510, '\x55\xaa') && image.length > LARGEST_BOOT_SECTOR ? `a disk image: ${NO_DISK}` : undefined;
}

/** Looks at the head only: an empty disk may be gigabytes. */
function zeros(image: ImageReader): string | undefined {
  const head = image.bytes.subarray(0, HEAD_BYTES);
  return head.every((byte) => byte === 0)
    ? 'nothing but zeros at its start: neither a kernel nor a boot sector'
    : undefined;
}
