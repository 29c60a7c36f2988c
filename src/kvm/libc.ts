/**
 * libc's open, close and ioctl by koffi, and this thread's scratch memory for ioctl arguments.
 *
 * Arguments are passed as addresses of one scratch buffer that never moves (an ArrayBuffer of its own), rather than as
 * objects: 0.22 us for a koffi call either way, but no argument is copied, allocated or kept alive for each call.
 */
import { createRequire } from 'node:module';
import { Ioctl, type IoctlName } from './constants.ts';
import { KvmError } from './errors.ts';
import { native } from './native.ts';

// koffi's CommonJS entry: 7 ms to load, half of what its ESM wrapper takes.
const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi');
const libc = koffi.load(null);
const openFile = libc.func('int open(const char *path, int flags, int mode)') as (
  path: string,
  flags: number,
  mode: number,
) => number;
const closeFile = libc.func('int close(int fd)') as (fd: number) => number;
const ioctlCall = libc.func('int ioctl(int fd, ulong request, ulong argument)') as (
  fd: number,
  request: number,
  argument: number,
) => number;

const O_RDWR_CLOEXEC = 0o2000002;
const SCRATCH_BYTES = 16384;
const buffer = new ArrayBuffer(SCRATCH_BYTES);

/** Valid until the next ioctl of this thread. */
export const scratch = {
  bytes: new Uint8Array(buffer),
  words: new Uint32Array(buffer),
  view: new DataView(buffer),
  address: native.addressOf(buffer),
} as const;

/** @throws KvmError('open') */
export function open(path: string): number {
  const fd = openFile(path, O_RDWR_CLOEXEC, 0);
  if (fd < 0) throw new KvmError('open', koffi.errno(), path);
  return fd;
}

export function close(fd: number): void {
  closeFile(fd);
}

/**
 * @param argument an integer or an address; by default the scratch buffer
 * @returns the ioctl's result (0 or more), or -errno
 */
export function tryIoctl(fd: number, name: IoctlName, argument: number = scratch.address): number {
  const result = ioctlCall(fd, Ioctl[name], argument);
  return result < 0 ? -koffi.errno() : result;
}

/** As `tryIoctl`. @throws KvmError */
export function ioctl(fd: number, name: IoctlName, argument: number = scratch.address, detail = ''): number {
  const result = ioctlCall(fd, Ioctl[name], argument);
  if (result < 0) throw new KvmError(name, koffi.errno(), detail);
  return result;
}
