/**
 * open, close and ioctl, and this thread's scratch memory for ioctl arguments. ioctl and close are the addon's; for the rest
 * of libc there is koffi, loaded when it is first needed: on the main thread at once, on a worker only to be sandboxed.
 *
 * This file is the only one that knows addresses. Memory goes to the call as a typed array or a DataView, which stays alive for
 * its length because it is an argument of it; a pointer inside an argument is filled in here and wiped when the call is over.
 * An ioctl that takes an integer has a function of its own, whose type takes no other request.
 */
import './supported.ts';
import { createRequire } from 'node:module';
import { Ioctl, type MemoryIoctl, type ValueIoctl } from './constants.ts';
import { openAdvice } from './device.ts';
import { errnoName, KvmError } from './errors.ts';
import { native } from './native.ts';

// koffi never gives a thread's memory back: 3 MiB as it comes. Nothing here needs more than the least it takes.
const LEAST_KOFFI_BYTES = 65_536;

interface Libc {
  readonly koffi: typeof import('koffi');
  readonly library: ReturnType<typeof import('koffi')['load']>;
  readonly open: (path: string, flags: number, mode: number) => number;
}

let loaded: Libc | undefined;

function libc(): Libc {
  loaded ??= loadLibc();
  return loaded;
}

function loadLibc(): Libc {
  // koffi's CommonJS entry: 7 ms to load, half of what its ESM wrapper takes.
  const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi');
  // Once in a process, and before the first library: the package's entries are bundles that each bring this file.
  if (koffi.config().sync_stack_size !== LEAST_KOFFI_BYTES) {
    koffi.config({
      sync_stack_size: LEAST_KOFFI_BYTES,
      sync_heap_size: LEAST_KOFFI_BYTES,
      async_stack_size: LEAST_KOFFI_BYTES,
      async_heap_size: LEAST_KOFFI_BYTES,
      resident_async_pools: 0,
    });
  }
  const library = koffi.load(null);
  return {
    koffi,
    library,
    open: library.func('int open(const char *path, int flags, int mode)') as Libc['open'],
  };
}

/** Memory that an ioctl reads or writes, from its first byte on. */
export type IoctlArgument = Uint8Array | Uint32Array | DataView;

/** A pointer inside an argument: the 64 bits at byte `at` point to the first byte of `to` while the call lasts. */
export interface Pointer {
  readonly at: number;
  readonly to: Uint8Array;
}

const O_RDWR_CLOEXEC = 0o2000002;
const SCRATCH_BYTES = 16384;
const PAGE = 4096;
const buffer = new ArrayBuffer(SCRATCH_BYTES);

/** Valid until the next ioctl of this thread. */
export const scratch = {
  bytes: new Uint8Array(buffer),
  words: new Uint32Array(buffer),
  view: new DataView(buffer),
} as const;

/** @throws KvmError('open') */
export function open(path: string): number {
  const fd = libc().open(path, O_RDWR_CLOEXEC, 0);
  if (fd < 0) {
    const errno = libc().koffi.errno();
    throw new KvmError('open', errno, path, openAdvice(path, errnoName(errno)));
  }
  return fd;
}

export function close(fd: number): void {
  native.close(fd); // EBADF: it is closed already
}

/** @returns the ioctl's result (0 or more), or -errno */
export function tryIoctl(fd: number, name: MemoryIoctl, argument: IoctlArgument = scratch.bytes): number {
  return native.ioctl(fd, Ioctl[name], argument);
}

/** As `tryIoctl`. @throws KvmError */
export function ioctl(fd: number, name: MemoryIoctl, argument: IoctlArgument = scratch.bytes, detail = ''): number {
  const result = native.ioctl(fd, Ioctl[name], argument);
  if (result < 0) throw new KvmError(name, -result, detail);
  return result;
}

/** An ioctl whose argument holds pointers; what KVM keeps of them after the call, the caller keeps alive. @throws KvmError */
export function ioctlWithPointers(
  fd: number,
  name: MemoryIoctl,
  argument: DataView,
  pointers: readonly Pointer[],
  detail = '',
): number {
  return withPointers(argument, pointers, () => ioctl(fd, name, argument, detail));
}

/** What a call of this thread points to: nothing else may keep it alive until the call is over. */
let pointedTo: readonly Pointer[] = [];

function withPointers<Result>(argument: DataView, pointers: readonly Pointer[], call: () => Result): Result {
  pointedTo = pointers;
  for (const { at, to } of pointers) argument.setBigUint64(at, libc().koffi.address(to), true);
  try {
    return call();
  } finally {
    for (const { at } of pointedTo) argument.setBigUint64(at, 0n, true);
    pointedTo = [];
  }
}

/** An ioctl that takes an integer. @throws KvmError */
export function ioctlWith(fd: number, name: ValueIoctl, value: number, detail = ''): number {
  const result = native.ioctl(fd, Ioctl[name], value);
  if (result < 0) throw new KvmError(name, -result, detail);
  return result;
}

/** How many bytes of `memory` lie before its first whole page: what KVM maps must begin there. 0 to 4095. */
export function bytesToPage(memory: SharedArrayBuffer): number {
  return (PAGE - Number(libc().koffi.address(new Uint8Array(memory)) % BigInt(PAGE))) % PAGE;
}

const PR_SET_NO_NEW_PRIVS = 38;
const SYS_SECCOMP = 317;
const SECCOMP_SET_MODE_FILTER = 1;
const SECCOMP_FILTER_FLAG_TSYNC = 1;
const SOCK_FPROG_BYTES = 16;
const SOCK_FPROG_FILTER = 8;
const ESRCH = 3;

/**
 * no_new_privs, then a seccomp filter, for this thread or for all of the process.
 * @param filter struct sock_filter[]
 * @returns 0 or an errno; ESRCH when another thread has a filter of its own
 */
export function setSeccompFilter(filter: Uint8Array, everyThread: boolean): number {
  const { koffi, library } = libc();
  const prctl = library.func('int prctl(int option, ulong, ulong, ulong, ulong)');
  const seccomp = library.func('long syscall(long number, uint operation, uint flags, void *argument)');
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) !== 0) return koffi.errno();
  const program = new DataView(new ArrayBuffer(SOCK_FPROG_BYTES));
  program.setUint16(0, filter.length / 8, true);
  const flags = everyThread ? SECCOMP_FILTER_FLAG_TSYNC : 0;
  const pointers = [{ at: SOCK_FPROG_FILTER, to: filter }];
  const result = withPointers(program, pointers, () => seccomp(SYS_SECCOMP, SECCOMP_SET_MODE_FILTER, flags, program));
  if (result < 0) return koffi.errno();
  return result === 0 ? 0 : ESRCH;
}
