/**
 * What a run needs of the kernel, as a seccomp filter (seccomp(2), classic BPF): everything else answers EPERM. For the time
 * from a guest's first instruction on, when all files are open and all memory is the machine's; found by running every guest
 * under it, on our APICs and on KVM's, with hotplug, resets, a trace and a terminal.
 *
 * What it is for: code of a guest that has broken out into this process can open, execute and connect to nothing, and signal
 * nobody. It keeps what is open: KVM's descriptors, the terminal, the trace. src/machine/README.md tells more.
 */
import { Ioctl, type IoctlName } from './constants.ts';
import { KvmError } from './errors.ts';
import { setSeccompFilter } from './libc.ts';

/** An argument of the call (0 to 5): with `mask` applied, its low 32 bits are one of `values`. */
interface When {
  readonly argument: number;
  readonly values: readonly number[];
  readonly mask?: number;
}

/** A system call that is allowed: its number on x86-64, and when. */
interface Call {
  readonly nr: number;
  readonly when?: When;
}

const KVM: readonly IoctlName[] = [
  'KVM_RUN',
  ...(['KVM_INTERRUPT', 'KVM_NMI', 'KVM_SIGNAL_MSI', 'KVM_SET_GSI_ROUTING', 'KVM_IRQ_LINE'] as const),
  ...(['KVM_GET_REGS', 'KVM_SET_REGS', 'KVM_GET_SREGS', 'KVM_SET_SREGS', 'KVM_GET_MSRS', 'KVM_SET_MSRS'] as const),
  ...(['KVM_GET_VCPU_EVENTS', 'KVM_SET_VCPU_EVENTS', 'KVM_GET_MP_STATE', 'KVM_SET_MP_STATE'] as const),
  ...(['KVM_GET_LAPIC', 'KVM_SET_LAPIC', 'KVM_GET_FPU', 'KVM_SET_FPU', 'KVM_GET_XCRS', 'KVM_SET_XCRS'] as const),
  ...(['KVM_GET_DEBUGREGS', 'KVM_SET_DEBUGREGS', 'KVM_TRANSLATE', 'KVM_GET_TSC_KHZ'] as const),
  ...(['KVM_CREATE_VCPU', 'KVM_SET_CPUID2'] as const), // hotplug
];
/** Terminal settings (TCGETS, TCSETS and its two like, TIOCGWINSZ), FIONBIO, FIONREAD, FIOCLEX. Not TIOCSTI. */
const TERMINAL = [0x5401, 0x5402, 0x5403, 0x5404, 0x5413, 0x5421, 0x541b, 0x5451];

const THREAD_FLAGS = 0x1_0100; // CLONE_THREAD | CLONE_VM
const AT_EMPTY_PATH = 0x1000;
/** F_GETFD, F_SETFD, F_GETFL, F_SETFL. */
const DESCRIPTOR_FLAGS = [1, 2, 3, 4];
/** PR_SET_NAME, PR_SET_VMA. */
const NAMES = [15, 0x5356_4d41];

/** The frequent ones first: the filter is read from the top. */
function calls(pid: number): Readonly<Record<string, Call>> {
  return {
    ioctl: { nr: 16, when: { argument: 1, values: [...KVM.map((name) => Ioctl[name]), ...TERMINAL] } },
    futex: { nr: 202 },
    timer_settime: { nr: 223 },
    tgkill: { nr: 234, when: { argument: 0, values: [pid] } },
    read: { nr: 0 },
    write: { nr: 1 },
    epoll_wait: { nr: 232 },
    epoll_pwait: { nr: 281 },
    epoll_ctl: { nr: 233 },
    clock_gettime: { nr: 228 },
    mmap: { nr: 9 },
    munmap: { nr: 11 },
    mprotect: { nr: 10 },
    madvise: { nr: 28 },
    mremap: { nr: 25 },
    brk: { nr: 12 },
    readv: { nr: 19 },
    writev: { nr: 20 },
    pread64: { nr: 17 },
    pwrite64: { nr: 18 },
    lseek: { nr: 8 },
    close: { nr: 3 },
    shutdown: { nr: 48 },
    fsync: { nr: 74 },
    fdatasync: { nr: 75 },
    fstat: { nr: 5 },
    newfstatat: { nr: 262, when: { argument: 3, values: [AT_EMPTY_PATH] } },
    statx: { nr: 332, when: { argument: 2, mask: AT_EMPTY_PATH, values: [AT_EMPTY_PATH] } },
    fcntl: { nr: 72, when: { argument: 1, values: DESCRIPTOR_FLAGS } },
    poll: { nr: 7 },
    ppoll: { nr: 271 },
    nanosleep: { nr: 35 },
    clock_nanosleep: { nr: 230 },
    sched_yield: { nr: 24 },
    sched_getaffinity: { nr: 204 },
    getpid: { nr: 39 },
    gettid: { nr: 186 },
    getrusage: { nr: 98 },
    getrandom: { nr: 318 },
    sysinfo: { nr: 99 },
    membarrier: { nr: 324 },
    rt_sigaction: { nr: 13 },
    rt_sigprocmask: { nr: 14 },
    rt_sigreturn: { nr: 15 },
    sigaltstack: { nr: 131 },
    restart_syscall: { nr: 219 },
    timer_create: { nr: 222 },
    timer_delete: { nr: 226 },
    clone: { nr: 56, when: { argument: 0, mask: THREAD_FLAGS, values: [THREAD_FLAGS] } },
    set_robust_list: { nr: 273 },
    rseq: { nr: 334 },
    prctl: { nr: 157, when: { argument: 0, values: NAMES } },
    eventfd2: { nr: 290 },
    epoll_create1: { nr: 291 },
    pipe2: { nr: 293 },
    exit: { nr: 60 },
    exit_group: { nr: 231 },
  };
}

// <linux/filter.h>, <linux/seccomp.h>
const LOAD = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND = 0x54; // BPF_ALU | BPF_AND | BPF_K
const IF_EQUAL = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const IF_AT_LEAST = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const RETURN = 0x06;
const NR_OFFSET = 0;
const ARCH_OFFSET = 4;
const ARGUMENTS_OFFSET = 16;
const ALLOW = 0x7fff_0000;
const KILL_PROCESS = 0x8000_0000;
const ERRNO = 0x0005_0000;
const EPERM = 1;
const ENOSYS = 38;
const AUDIT_ARCH_X86_64 = 0xc000_003e;
const X32 = 0x4000_0000;
const CLONE3 = 435;

type Instruction = readonly [code: number, ifTrue: number, ifFalse: number, k: number];

/** Skips the next instruction unless the value loaded is `k`. */
const unless = (k: number): Instruction => [IF_EQUAL, 0, 1, k];
const answer = (k: number): Instruction => [RETURN, 0, 0, k];
const load = (offset: number): Instruction => [LOAD, 0, 0, offset];

function instructions(pid: number): Instruction[] {
  const program: Instruction[] = [
    load(ARCH_OFFSET),
    [IF_EQUAL, 1, 0, AUDIT_ARCH_X86_64],
    answer(KILL_PROCESS),
    load(NR_OFFSET),
    [IF_AT_LEAST, 0, 1, X32],
    answer(ERRNO | ENOSYS),
  ];
  for (const { nr, when } of Object.values(calls(pid))) {
    if (when === undefined) {
      program.push(unless(nr), answer(ALLOW));
      continue;
    }
    const check: Instruction[] = [load(ARGUMENTS_OFFSET + 8 * when.argument)];
    if (when.mask !== undefined) check.push([AND, 0, 0, when.mask]);
    for (const value of when.values) check.push(unless(value), answer(ALLOW));
    check.push(answer(ERRNO | EPERM));
    program.push([IF_EQUAL, 0, check.length, nr], ...check);
  }
  // glibc then takes clone, whose flags can be looked at.
  program.push(unless(CLONE3), answer(ERRNO | ENOSYS), answer(ERRNO | EPERM));
  return program;
}

/** struct sock_filter[]: what the kernel reads. @param pid of the process whose threads it may signal: its own */
export function seccompProgram(pid: number): Uint8Array {
  const program = instructions(pid);
  const view = new DataView(new ArrayBuffer(8 * program.length));
  for (const [index, [code, ifTrue, ifFalse, k]] of program.entries()) {
    view.setUint16(8 * index, code, true);
    view.setUint8(8 * index + 2, ifTrue);
    view.setUint8(8 * index + 3, ifFalse);
    view.setUint32(8 * index + 4, k, true);
  }
  return new Uint8Array(view.buffer);
}

/**
 * No new privileges, and the filter: of this thread and those that it makes, or of every thread there is. For good.
 * @throws KvmError('seccomp') where the kernel has none
 */
export function sandbox(of: 'this thread' | 'every thread'): void {
  const errno = setSeccompFilter(seccompProgram(process.pid), of === 'every thread');
  if (errno !== 0) throw new KvmError('seccomp', errno);
}
