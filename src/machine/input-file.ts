/**
 * Files that a guest is given: image, initrd, modules. They are not trusted: only regular files are opened (a pipe or a device
 * could block or never end), no more is read than the guest's memory holds, and a signal ends the reading of what is not small.
 * An image packed by gzip is unpacked on the way.
 */
import { closeSync, constants, createReadStream, fstatSync, openSync, readSync } from 'node:fs';
import type { Readable } from 'node:stream';
import { checkFormat, ImageError } from '../boot/index.ts';
import { ConfigError } from './errors.ts';

export interface InputBytes {
  readonly bytes: Uint8Array;
  /** The file is longer. */
  readonly isCut: boolean;
}

export interface InputLimits {
  /** Bytes of guest RAM that are left for it. */
  readonly maxBytes: number;
  readonly signal?: AbortSignal | undefined;
}

const CHUNK_BYTES = 2 ** 20;
/** A file that is no longer is read at once: 0.2 ms, where a stream takes 5 of a process's start. */
const SMALL_BYTES = 2 ** 18;
/** By then a file is known to be an image or not; no firmware that could be named by its end is larger. */
const EARLY_BYTES = 2 ** 24;
const GZIP_MAGIC = [0x1f, 0x8b] as const;

const WHY: Readonly<Record<string, string>> = {
  ENOENT: 'no such file',
  EACCES: 'no permission to read it',
  ELOOP: 'its symbolic links go round in a circle',
  ENXIO: 'not a regular file',
};

/** As much of an image as fits, unpacked if gzip packed it. @throws ImageError when it is none; ConfigError as `readModule` */
export async function readImage(image: string | Uint8Array, name: string, limits: InputLimits): Promise<InputBytes> {
  const check = (bytes: Uint8Array) => checkFormat(bytes, name);
  if (typeof image !== 'string') {
    return isGzip(image) ? unpack([image], name, limits, check) : cut(image, limits.maxBytes);
  }
  return withFile('image', image, async (file) => {
    const { fd, size } = file;
    const start = new Uint8Array(GZIP_MAGIC.length);
    readSync(fd, start, 0, start.length, 0);
    if (isGzip(start)) return unpack(stream(file), name, limits, check);
    // A size of 0 may only mean that nobody knows (/proc, some of FUSE).
    return size > 0 && size <= SMALL_BYTES
      ? cut(contents(file), limits.maxBytes)
      : collect(stream(file), limits, size, check);
  });
}

/** An initrd or module, as it is. @throws ConfigError when it cannot be read or is larger than the guest's memory */
export async function readModule(path: string, limits: InputLimits): Promise<Uint8Array> {
  return withFile('initrd', path, async (file) => {
    const { bytes, isCut } = await collect(stream(file), limits, file.size, () => {});
    if (isCut) throw new ConfigError(`initrd ${path} is larger than the guest's memory: give the guest more`);
    return bytes;
  });
}

interface OpenFile {
  readonly fd: number;
  readonly size: number;
  /** A stream has taken `fd`, and closes it when its last read is over. */
  isTaken: boolean;
}

async function withFile<T>(what: string, path: string, use: (file: OpenFile) => Promise<T>): Promise<T> {
  let fd: number | undefined;
  let file: OpenFile | undefined;
  try {
    // Not blocking: the open of a pipe would wait for its writer.
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
    const status = fstatSync(fd);
    if (status.isDirectory()) throw new ConfigError(`cannot read ${what} ${path}: it is a directory`);
    if (!status.isFile()) throw new ConfigError(`cannot read ${what} ${path}: not a regular file; copy it to one`);
    file = { fd, size: status.size, isTaken: false };
    return await use(file);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const isSystemError = error instanceof Error && 'syscall' in error;
    if (!isSystemError) throw error;
    throw new ConfigError(`cannot read ${what} ${path}: ${WHY[code ?? ''] ?? code}`);
  } finally {
    if (fd !== undefined && file?.isTaken !== true) closeSync(fd);
  }
}

/** @returns fewer than `size` bytes of a file that has shrunk meanwhile */
function contents({ fd, size }: OpenFile): Uint8Array {
  const bytes = new Uint8Array(size);
  let length = 0;
  for (let got = -1; got !== 0 && length < size; length += got)
    got = readSync(fd, bytes, length, size - length, length);
  return bytes.subarray(0, length);
}

function stream(file: OpenFile): Readable {
  file.isTaken = true;
  return createReadStream('', { fd: file.fd, start: 0, highWaterMark: CHUNK_BYTES });
}

async function unpack(
  source: Iterable<Uint8Array> | Readable,
  name: string,
  limits: InputLimits,
  check: (bytes: Uint8Array) => void,
): Promise<InputBytes> {
  const [{ createGunzip }, { pipeline }] = await Promise.all([import('node:zlib'), import('node:stream')]);
  const gunzip = createGunzip({ chunkSize: CHUNK_BYTES });
  pipeline(source, gunzip, () => {}); // errors of either reach the loop that reads
  try {
    return await collect(gunzip, limits, CHUNK_BYTES, check);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code?.startsWith('Z_')) throw new ImageError(name, `a broken gzip file: ${message}`);
    throw error;
  }
}

/** @param expected how many bytes there will probably be. @param check called once, before more than EARLY_BYTES are read */
async function collect(
  stream: Readable,
  { maxBytes, signal }: InputLimits,
  expected: number,
  check: (bytes: Uint8Array) => void,
): Promise<InputBytes> {
  let bytes = new Uint8Array(Math.min(maxBytes, expected));
  let length = 0;
  let checked = false;
  for await (const chunk of stream as AsyncIterable<Uint8Array>) {
    signal?.throwIfAborted();
    const end = length + chunk.length;
    if (end > maxBytes) {
      bytes = grown(bytes, maxBytes, maxBytes);
      bytes.set(chunk.subarray(0, maxBytes - length), length);
      return { bytes, isCut: true };
    }
    bytes = grown(bytes, end, maxBytes);
    bytes.set(chunk, length);
    length = end;
    if (!checked && length > EARLY_BYTES) {
      check(bytes.subarray(0, length));
      checked = true;
    }
  }
  return { bytes: bytes.subarray(0, length), isCut: false };
}

function grown(bytes: Uint8Array<ArrayBuffer>, needed: number, maxBytes: number): Uint8Array<ArrayBuffer> {
  if (bytes.length >= needed) return bytes;
  const larger = new Uint8Array(Math.min(maxBytes, Math.max(needed, bytes.length * 2)));
  larger.set(bytes);
  return larger;
}

function isGzip(bytes: Uint8Array): boolean {
  return GZIP_MAGIC.every((byte, index) => bytes[index] === byte);
}

function cut(bytes: Uint8Array, maxBytes: number): InputBytes {
  return bytes.length > maxBytes ? { bytes: bytes.subarray(0, maxBytes), isCut: true } : { bytes, isCut: false };
}
