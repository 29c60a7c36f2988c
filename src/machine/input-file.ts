/**
 * Files that a guest is given: image, initrd, modules. They are not trusted: only regular files are opened (a pipe or a device
 * could block or never end), no more is read than the guest's memory holds, and a signal ends the reading at any time.
 * An image packed by gzip is unpacked on the way.
 */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { pipeline, Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
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
    return isGzip(image) ? unpack(Readable.from([image]), name, limits, check) : cut(image, limits.maxBytes);
  }
  return withFile('image', image, async (file, size) => {
    const start = new Uint8Array(GZIP_MAGIC.length);
    await file.read(start, 0, start.length, 0);
    const contents = read(file);
    return isGzip(start) ? unpack(contents, name, limits, check) : collect(contents, limits, size, check);
  });
}

/** An initrd or module, as it is. @throws ConfigError when it cannot be read or is larger than the guest's memory */
export async function readModule(path: string, limits: InputLimits): Promise<Uint8Array> {
  return withFile('initrd', path, async (file, size) => {
    const { bytes, isCut } = await collect(read(file), limits, size, () => {});
    if (isCut) throw new ConfigError(`initrd ${path} is larger than the guest's memory: give the guest more`);
    return bytes;
  });
}

async function withFile<T>(
  what: string,
  path: string,
  use: (file: FileHandle, size: number) => Promise<T>,
): Promise<T> {
  let file: FileHandle | undefined;
  try {
    // Not blocking: the open of a pipe would wait for its writer.
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
    const status = await file.stat();
    if (status.isDirectory()) throw new ConfigError(`cannot read ${what} ${path}: it is a directory`);
    if (!status.isFile()) throw new ConfigError(`cannot read ${what} ${path}: not a regular file; copy it to one`);
    return await use(file, status.size);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const isSystemError = error instanceof Error && 'syscall' in error;
    if (!isSystemError) throw error;
    throw new ConfigError(`cannot read ${what} ${path}: ${WHY[code ?? ''] ?? code}`);
  } finally {
    await file?.close();
  }
}

function read(file: FileHandle): Readable {
  return file.createReadStream({ start: 0, autoClose: false, highWaterMark: CHUNK_BYTES });
}

async function unpack(
  source: Readable,
  name: string,
  limits: InputLimits,
  check: (bytes: Uint8Array) => void,
): Promise<InputBytes> {
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
