/**
 * Writes an initramfs: a cpio archive in the "newc" form that Linux unpacks (Documentation/driver-api/early-userspace/
 * buffer-format.rst). Every file belongs to root and has no time, so that the same files give the same bytes.
 */

/** A file, or a folder where `data` is missing. Folders come before what lies in them. */
export interface ArchiveEntry {
  readonly name: string;
  /** Permission bits. */
  readonly mode: number;
  readonly data?: Uint8Array;
}

const DIRECTORY = 0o040000;
const REGULAR = 0o100000;
/** Names and data begin at multiples of this. */
const ALIGNMENT = 4;
const TRAILER = 'TRAILER!!!';

export function cpio(entries: readonly ArchiveEntry[]): Buffer {
  const parts: Buffer[] = [];
  for (const [index, { name, mode, data }] of entries.entries()) {
    const type = data === undefined ? DIRECTORY : REGULAR;
    parts.push(member(name, { inode: index + 1, mode: type | mode, data: data ?? new Uint8Array(0) }));
  }
  parts.push(member(TRAILER, { inode: 0, mode: 0, data: new Uint8Array(0) }));
  return Buffer.concat(parts);
}

interface Member {
  readonly inode: number;
  readonly mode: number;
  readonly data: Uint8Array;
}

function member(name: string, { inode, mode, data }: Member): Buffer {
  const named = Buffer.from(`${name}\0`);
  // ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
  const fields = [inode, mode, 0, 0, 1, 0, data.length, 0, 0, 0, 0, named.length, 0];
  const header = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`);
  return Buffer.concat([padded(Buffer.concat([header, named])), padded(data)]);
}

function padded(data: Uint8Array): Buffer {
  const over = data.length % ALIGNMENT;
  return Buffer.concat([data, Buffer.alloc(over === 0 ? 0 : ALIGNMENT - over)]);
}
