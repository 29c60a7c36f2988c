/**
 * The addon (native/apiary.c) with types and checks. A package brings it compiled; a checkout's build compiles it.
 *
 * Loading it installs the kick signal's handler and unblocks the signal on the calling thread, so each worker that is to
 * be kicked imports this module itself; `threadId()` is then what others kick.
 */
import './supported.ts';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { isMainThread } from 'node:worker_threads';
import { PACKAGE_ROOT } from '../package-root.ts';
import { AddonError, KvmError } from './errors.ts';

interface Addon {
  mapRun(vcpuFd: number, bytes: number): RunMapping | number;
  unmapRun(handle: number, buffer: ArrayBuffer): void;
  threadId(): number;
  /** KVM_RUN on the handle in control[0]; control[1] is 0 or -errno. This thread's. */
  run(): void;
  readonly control: ArrayBuffer;
  kick(threadId: number): boolean;
  stopAll(): void;
  armTimer(deadlineNanos: number): number;
  nowNanos(): number;
  ioctl(fd: number, request: number, argument: number | ArrayBufferView): number;
  close(fd: number): number;
  discard(bytes: Uint8Array<SharedArrayBuffer>): number;
  readonly ioctlWithPointers:
    | undefined
    | ((
        fd: number,
        request: number,
        argument: ArrayBufferView,
        ...pointers: readonly (number | ArrayBufferView)[]
      ) => number);
  bytesToPage(memory: ArrayBufferView, pageBytes: number): number;
}

/** One thread's mapping of a vCPU's kvm_run. `handle` is only good on the thread that made it. */
export interface RunMapping {
  readonly handle: number;
  readonly buffer: ArrayBuffer;
}

const addon = loadAddon();
if (addon.ioctlWithPointers === undefined)
  throw new AddonError('native/build has the addon of another version: npm run build');
const control = new Int32Array(addon.control);
const { run } = addon;

// Node joins its workers at exit, which would wait forever for one that is inside KVM_RUN.
if (isMainThread) process.once('exit', () => addon.stopAll());

/**
 * What JavaScript cannot do and the addon (native/apiary.c) does, on the calling thread. Errors are -errno, not
 * exceptions.
 */
export const native = {
  /**
   * Maps kvm_run of a vCPU descriptor; unmapped when `buffer` is collected or by `unmapRun`.
   * @param bytes KVM_GET_VCPU_MMAP_SIZE
   * @throws KvmError
   */
  mapRun(vcpuFd: number, bytes: number): RunMapping {
    const mapping = addon.mapRun(vcpuFd, bytes);
    if (typeof mapping === 'number') throw new KvmError('mmap', -mapping, `kvm_run of descriptor ${vcpuFd}`);
    return mapping;
  },

  /** Detaches the buffer (reads then answer undefined) and unmaps; `run` of its handle answers -EBADF. Twice is harmless. */
  unmapRun(mapping: RunMapping): void {
    addon.unmapRun(mapping.handle, mapping.buffer);
  },

  /** gettid(), for `kick`. */
  threadId: addon.threadId,

  /**
   * KVM_RUN on a mapping of this thread: 0 or -errno. A kick of this thread (or its timer) ends it with -EINTR; when the
   * guest exited at the same moment the answer is 0, and the next `run` answers -EINTR. A kick that arrived since the last
   * `run` ends it at once, with the I/O of the previous exit completed; a `run` with KvmRun.immediateExit set uses no kick
   * up. So publish the reason, then kick; and look for reasons after each -EINTR, or more often. 13 ns over the ioctl
   * (Node 20). From the kick to the return on the other thread: 16 us.
   */
  run(handle: number): number {
    control[0] = handle;
    run();
    return control[1] ?? 0;
  },

  /** Ends the `run` the thread is in, or its next one. False when the thread is gone. 3 us to send. */
  kick: addon.kick,

  /** The process is about to exit: every `run` of every thread answers -EINTR from now on. Done at exit by itself. */
  stopAll: addon.stopAll,

  /**
   * This thread's one timer: kicks this thread at `deadlineNanos` of `nowNanos`' clock, at once when that has passed;
   * Infinity disarms. Replaces the deadline that was set. 0.3 us.
   * @throws KvmError when there is no room for a timer (ulimit -i)
   */
  armTimer(deadlineNanos: number): void {
    const status = addon.armTimer(deadlineNanos);
    if (status < 0) throw new KvmError('timer_settime', -status);
  },

  /** CLOCK_MONOTONIC in nanoseconds; exact to 2 ns for the first 208 days after boot. 60 ns. */
  nowNanos: addon.nowNanos,

  /**
   * ioctl(2). The argument is an integer, or the memory that the request reads or writes, from the view's first byte on.
   * @returns its result, or -errno
   */
  ioctl: addon.ioctl,

  /**
   * `ioctl`, of memory in which the 64 bits at a byte's index point to the first byte of a view while the call lasts: pairs of
   * those, at most 16. The caller keeps inside of `argument`.
   */
  ioctlWithPointers: addon.ioctlWithPointers,

  /** How many bytes of `memory` lie before its first whole page. @param pageBytes a power of 2 */
  bytesToPage: addon.bytesToPage,

  /** close(2), of a descriptor that an ioctl has opened. @returns 0 or -errno */
  close: addon.close,

  /** madvise(2), MADV_DONTNEED. @param bytes begins and ends on a page. @returns 0 or -errno */
  discard: addon.discard,
};

function loadAddon(): Addon {
  const path = fileURLToPath(new URL('native/build/apiary.node', PACKAGE_ROOT));
  try {
    // By require, whose cache all bundles of a process share: the addon's state is a thread's, not a module's.
    return createRequire(import.meta.url)(path) as Addon;
  } catch (error) {
    const why = (error as Error).message.split('\n')[0];
    throw new AddonError(
      `the addon does not load (${why}): npm rebuild apiary (in a checkout: npm run build) makes it`,
    );
  }
}
