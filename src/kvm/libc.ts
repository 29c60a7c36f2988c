/**
 * open, close and ioctl, and this thread's scratch memory for ioctl arguments. ioctl and close are the addon's; for the rest
 * of libc there is koffi, which takes 7-13 ms to load: only a thread that is to be sandboxed needs it.
 *
 * Memory goes to the call as a typed array or a DataView, which stays alive for its length because it is an argument of it; a
 * pointer inside an argument is filled in by the addon and wiped when the call is over. No address leaves either of the two.
 * An ioctl that takes an integer has a function of its own, whose type takes no other request.
 */
import './supported.ts';
import { closeSync, constants, openSync } from 'node:fs';
import { createRequire } from 'node:module';
import { Ioctl, type MemoryIoctl, type ValueIoctl } from './constants.ts';
import { openAdvice } from './device.ts';
import { KvmError } from './errors.ts';
import { native } from './native.ts';

// koffi never gives a thread's memory back: 3 MiB as it comes. Nothing here needs more than the least it takes.
const LEAST_KOFFI_BYTES = 65_536;

interface Libc {
  readonly koffi: typeof import('koffi');
  readonly library: ReturnType<typeof import('koffi')['load']>;
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
  return { koffi, library };
}

/** Memory that an ioctl reads or writes, from its first byte on. */
export type IoctlArgument = Uint8Array | Uint32Array | DataView;

/** A pointer inside an argument: the 64 bits at byte `at` point to the first byte of `to` while the call lasts. */
export interface Pointer {
  readonly at: number;
  readonly to: Uint8Array;
}

const SCRATCH_BYTES = 16384;
const PAGE = 4096;
const POINTER_BYTES = 8;
/** What the addon has room for. */
const MAX_POINTERS = 16;
const buffer = new ArrayBuffer(SCRATCH_BYTES);

/** Valid until the next ioctl of this thread. */
export const scratch = {
  bytes: new Uint8Array(buffer),
  words: new Uint32Array(buffer),
  view: new DataView(buffer),
} as const;

/** @throws KvmError('open') */
export function open(path: string): number {
  try {
    return openSync(path, constants.O_RDWR); // close-on-exec, as all that Node opens
  } catch (error) {
    const { errno, code = '' } = error as NodeJS.ErrnoException;
    throw new KvmError('open', -(errno ?? 0), path, openAdvice(path, code));
  }
}

/** Of what `open` has opened: Node keeps a list of each thread's, and closes what is on it when the thread ends. */
export function closeOpened(fd: number): void {
  try {
    closeSync(fd);
  } catch {
    // it is closed already
  }
}

/** Of what an ioctl has opened. */
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
  if (pointers.length > MAX_POINTERS) throw new RangeError(`${name}: more than ${MAX_POINTERS} pointers`);
  const pairs = pointers.flatMap(({ at, to }) => {
    if (at + POINTER_BYTES > argument.byteLength) throw new RangeError(`${name}: no room for a pointer at byte ${at}`);
    return [at, to];
  });
  const result = native.ioctlWithPointers(fd, Ioctl[name], argument, ...pairs);
  if (result < 0) throw new KvmError(name, -result, detail);
  return result;
}

/** An ioctl that takes an integer. @throws KvmError */
export function ioctlWith(fd: number, name: ValueIoctl, value: number, detail = ''): number {
  const result = native.ioctl(fd, Ioctl[name], value);
  if (result < 0) throw new KvmError(name, -result, detail);
  return result;
}

/** How many bytes of `memory` lie before its first whole page: what KVM maps must begin there. 0 to 4095. */
export function bytesToPage(memory: SharedArrayBuffer): number {
  return native.bytesToPage(new Uint8Array(memory), PAGE);
}

/**
 * Gives the whole pages of `memory` back to the system at once, which the garbage collector would do later; they read as zeros
 * from now on.
 */
export function discardPages(memory: SharedArrayBuffer): void {
  const from = bytesToPage(memory);
  const bytes = Math.floor((memory.byteLength - from) / PAGE) * PAGE;
  if (bytes > 0) native.discard(new Uint8Array(memory, from, bytes));
}

const PR_SET_NO_NEW_PRIVS = 38;
const SYS_SECCOMP = 317;
const SECCOMP_SET_MODE_FILTER = 1;
const SECCOMP_FILTER_FLAG_TSYNC = 1;
const SOCK_FPROG_BYTES = 16;
const SOCK_FPROG_FILTER = 8;
const ESRCH = 3;

/** What `setSeccompFilter` points to: nothing else may keep it alive until the call is over. */
const pointedTo = new Set<Uint8Array>();

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
  program.setBigUint64(SOCK_FPROG_FILTER, koffi.address(filter), true);
  pointedTo.add(filter);
  const result = seccomp(SYS_SECCOMP, SECCOMP_SET_MODE_FILTER, flags, program);
  pointedTo.delete(filter);
  if (result < 0) return koffi.errno();
  return result === 0 ? 0 : ESRCH;
}
