/**
 * What a KVM that interprets ring 0 (a host without VMX and SVM) lacks there, asked of it: a VM of one vCPU and 1 MiB for
 * each question, whose flat 32-bit program does the thing in question and then writes to a port. Whatever else becomes of it
 * is a gap: an internal error of KVM, an exception (there is no IDT, so a shutdown), no end within the limit. A KVM on
 * VMX or SVM has none of them. Any thread that the addon's timer may kick.
 */
import { protectedMode } from '../boot/boot-state.ts';
import { GuestMemory as BootMemory } from '../boot/guest-memory.ts';
import { memoryMap } from '../boot/index.ts';
import { type CpuidEntry, ExitReason, errnoName, exitName, type System } from '../kvm/index.ts';
import { applyBootState } from './loop/cpu-state.ts';
import type { VcpuRun } from './loop/vcpu-backend.ts';
import { GuestMemory } from './shared/guest-memory.ts';
import type { HostThread } from './shared/host-thread.ts';
import { IDENTITY_MAP_ADDRESS, TSS_ADDRESS } from './virtual-machine.ts';

/** One thing that guests do in ring 0, and this host's KVM does not. */
export interface Gap {
  /** 'x87 and SSE' */
  readonly what: string;
  /** What came of it: 'KVM_EXIT_INTERNAL_ERROR', 'no end within 1 s'. */
  readonly outcome: string;
  /** What a person is told. */
  readonly line: string;
}

interface Probe {
  readonly what: string;
  /** The CPU's own: VMMCALL is AMD's VMCALL. */
  code(isAmd: boolean): readonly number[];
}

const CODE = 0x1000;
/** What a memory map needs, and more than the programs do. */
const MEMORY_BYTES = 1 << 20;
/** CR4.OSFXSR and CR4.OSXMMEXCPT: SSE is switched on (SDM vol. 1, 13.1.4). */
const SSE_ON = 0x600;
const DONE_PORT = 0xf4;
/** mov $0x5a, %al; out %al, $0xf4; hlt */
const DONE = [0xb0, 0x5a, 0xe6, DONE_PORT, 0xf4] as const;
const DONE_VALUE = 0x5a;
const EINTR = 4;
/** A working one takes microseconds, on an emulated host milliseconds. */
const LIMIT_NANOS = 1e9;
const AMDS: readonly number[] = [0x6874_7541, 0x6f67_7948]; // CPUID.0:EBX of AuthenticAMD, HygonGenuine

/** In the order in which they are told. src/TROUBLESHOOTING.md has them all. */
export const PROBES: readonly Probe[] = [
  {
    what: 'x87 and SSE',
    code: () => [
      ...[0xdb, 0xe3, 0xd9, 0xe8], // fninit; fld1
      ...[0xd9, 0x1d, 0x00, 0x30, 0x00, 0x00], // fstps 0x3000
      ...[0x0f, 0x57, 0xc0], // xorps %xmm0, %xmm0
      ...[0x0f, 0x11, 0x05, 0x10, 0x30, 0x00, 0x00], // movups %xmm0, 0x3010
    ],
  },
  {
    what: '32-bit paging without PAE (PSE)',
    code: () => [
      ...[0xc7, 0x05, 0x00, 0x20, 0x00, 0x00, 0x83, 0x00, 0x00, 0x00], // movl $0x83, 0x2000: 4 MiB at 0, present, writable
      ...[0x0f, 0x20, 0xe0, 0x83, 0xc8, 0x10, 0x0f, 0x22, 0xe0], // CR4.PSE
      ...[0xb8, 0x00, 0x20, 0x00, 0x00, 0x0f, 0x22, 0xd8], // CR3 = 0x2000
      ...[0x0f, 0x20, 0xc0, 0x0d, 0x00, 0x00, 0x00, 0x80, 0x0f, 0x22, 0xc0], // CR0.PG
    ],
  },
  {
    what: 'hypercalls (VMCALL, VMMCALL)',
    // KVM_HC_VAPIC_POLL_IRQ, which does nothing: mov $1, %eax; vmcall or vmmcall
    code: (isAmd) => [0xb8, 0x01, 0x00, 0x00, 0x00, 0x0f, 0x01, isAmd ? 0xd9 : 0xc1],
  },
];

/** Runs a probe's vCPU to its end. @returns undefined when the program got to it, else what came of it */
export function runProbe(
  run: Pick<VcpuRun, 'run' | 'exitReason' | 'ioIsOut' | 'ioPort' | 'ioValue'>,
  host: HostThread,
): string | undefined {
  const deadline = host.nowNanos() + LIMIT_NANOS;
  host.armTimer(deadline);
  try {
    for (;;) {
      const status = run.run();
      if (status === 0) {
        const isDone = run.exitReason === ExitReason.IO && run.ioIsOut && run.ioPort === DONE_PORT;
        return isDone && run.ioValue() === DONE_VALUE ? undefined : exitName(run.exitReason);
      }
      if (status !== -EINTR) return errnoName(-status);
      if (host.nowNanos() >= deadline) return `no end within ${LIMIT_NANOS / 1e9} s`;
    }
  } finally {
    host.armTimer(Number.POSITIVE_INFINITY);
  }
}

/** Asks this host's KVM. @throws KvmError where it has no VM for us */
export function ring0Gaps(system: System, host: HostThread): Gap[] {
  const cpuid = system.getSupportedCpuid();
  const isAmd = cpuid.some(({ function: leaf, ebx }) => leaf === 0 && AMDS.includes(ebx));
  return PROBES.flatMap(({ what, code }) => {
    const outcome = inVm(system, cpuid, [...code(isAmd), ...DONE], (run) => runProbe(run, host));
    return outcome === undefined ? [] : [gap(what, outcome)];
  });
}

function gap(what: string, outcome: string): Gap {
  const line = `this host's KVM does not run ${what} in ring 0 (${outcome}): guests that need it fail; a host with hardware virtualisation (VMX or SVM) does`;
  return { what, outcome, line };
}

function inVm<T>(system: System, cpuid: readonly CpuidEntry[], code: readonly number[], body: (run: VcpuRun) => T): T {
  const vm = system.createVm();
  try {
    vm.setTssAddr(TSS_ADDRESS);
    vm.setIdentityMapAddr(IDENTITY_MAP_ADDRESS);
    const { bytes } = new GuestMemory(MEMORY_BYTES);
    bytes.set(code, CODE);
    vm.setUserMemoryRegion(0, 0, bytes);
    const vcpu = vm.createVcpu(0);
    try {
      vcpu.setCpuid2(cpuid);
      const boot = new BootMemory(bytes, memoryMap(MEMORY_BYTES), 'probe');
      applyBootState(vcpu, { ...protectedMode(boot, 'raw', CODE, {}), cr4: SSE_ON });
      const run = vcpu.mapRun();
      try {
        return body(run);
      } finally {
        run.unmap();
      }
    } finally {
      vcpu.close();
    }
  } finally {
    vm.close();
  }
}
