/**
 * The layouts of <linux/kvm.h> and <asm/kvm.h> that are used, each once, with C's own names: `apic_base` in C is
 * `apicBase` here. Members called pad* and reserved* have their place but are not decoded; they are written as zero.
 * Left out on purpose: every architecture but x86-64, nested state, Hyper-V, Xen, SEV, coalesced MMIO.
 */
import { array, bytes, struct, u8, u16, u32, u64, type Value } from './struct.ts';

export const kvmRegs = struct('kvm_regs', {
  rax: u64,
  rbx: u64,
  rcx: u64,
  rdx: u64,
  rsi: u64,
  rdi: u64,
  rsp: u64,
  rbp: u64,
  r8: u64,
  r9: u64,
  r10: u64,
  r11: u64,
  r12: u64,
  r13: u64,
  r14: u64,
  r15: u64,
  rip: u64,
  rflags: u64,
});
/** struct kvm_regs: KVM_GET_REGS, KVM_SET_REGS. */
export type Regs = Value<typeof kvmRegs>;

export const kvmSegment = struct('kvm_segment', {
  base: u64,
  limit: u32,
  selector: u16,
  type: u8,
  present: u8,
  dpl: u8,
  db: u8,
  s: u8,
  l: u8,
  g: u8,
  avl: u8,
  unusable: u8,
  padding: u8,
});
/** struct kvm_segment, of `Sregs`. */
export type Segment = Value<typeof kvmSegment>;

export const kvmDtable = struct('kvm_dtable', { base: u64, limit: u16, padding: array(u16, 3) });

export const kvmSregs = struct('kvm_sregs', {
  cs: kvmSegment,
  ds: kvmSegment,
  es: kvmSegment,
  fs: kvmSegment,
  gs: kvmSegment,
  ss: kvmSegment,
  tr: kvmSegment,
  ldt: kvmSegment,
  gdt: kvmDtable,
  idt: kvmDtable,
  cr0: u64,
  cr2: u64,
  cr3: u64,
  cr4: u64,
  cr8: u64,
  efer: u64,
  apicBase: u64,
  interruptBitmap: array(u64, 4),
});
/** struct kvm_sregs: KVM_GET_SREGS, KVM_SET_SREGS. */
export type Sregs = Value<typeof kvmSregs>;

export const kvmFpu = struct('kvm_fpu', {
  fpr: bytes(128),
  fcw: u16,
  fsw: u16,
  ftwx: u8,
  pad1: u8,
  lastOpcode: u16,
  lastIp: u64,
  lastDp: u64,
  xmm: bytes(256),
  mxcsr: u32,
  pad2: u32,
});
/** struct kvm_fpu: KVM_GET_FPU, KVM_SET_FPU. */
export type Fpu = Value<typeof kvmFpu>;

export const kvmMsrs = struct('kvm_msrs', { nmsrs: u32, pad: u32 });
export const kvmMsrEntry = struct('kvm_msr_entry', { index: u32, reserved: u32, data: u64 });
export const kvmMsrList = struct('kvm_msr_list', { nmsrs: u32 });

export const kvmMsrFilterRange = struct('kvm_msr_filter_range', { flags: u32, nmsrs: u32, base: u32, bitmap: u64 });
export const kvmMsrFilter = struct('kvm_msr_filter', { flags: u32, ranges: array(kvmMsrFilterRange, 16) });

export const kvmCpuid2 = struct('kvm_cpuid2', { nent: u32, padding: u32 });
export const kvmCpuidEntry2 = struct('kvm_cpuid_entry2', {
  function: u32,
  index: u32,
  flags: u32,
  eax: u32,
  ebx: u32,
  ecx: u32,
  edx: u32,
  padding: array(u32, 3),
});
/** One row of CPUID: leaf `function`, subleaf `index` (significant when `flags` has KVM_CPUID_FLAG_SIGNIFCANT_INDEX). */
export type CpuidEntry = Value<typeof kvmCpuidEntry2>;

export const kvmVcpuEvents = struct('kvm_vcpu_events', {
  exception: struct('kvm_vcpu_events.exception', {
    injected: u8,
    nr: u8,
    hasErrorCode: u8,
    pending: u8,
    errorCode: u32,
  }),
  interrupt: struct('kvm_vcpu_events.interrupt', { injected: u8, nr: u8, soft: u8, shadow: u8 }),
  nmi: struct('kvm_vcpu_events.nmi', { injected: u8, pending: u8, masked: u8, pad: u8 }),
  sipiVector: u32,
  flags: u32,
  smi: struct('kvm_vcpu_events.smi', { smm: u8, pending: u8, smmInsideNmi: u8, latchedInit: u8 }),
  tripleFault: struct('kvm_vcpu_events.triple_fault', { pending: u8 }),
  reserved: bytes(26),
  exceptionHasPayload: u8,
  exceptionPayload: u64,
});
/** struct kvm_vcpu_events: KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS. */
export type VcpuEvents = Value<typeof kvmVcpuEvents>;

export const kvmDebugregs = struct('kvm_debugregs', {
  db: array(u64, 4),
  dr6: u64,
  dr7: u64,
  flags: u64,
  reserved: array(u64, 9),
});
/** struct kvm_debugregs: KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS. */
export type Debugregs = Value<typeof kvmDebugregs>;

export const kvmXcr = struct('kvm_xcr', { xcr: u32, reserved: u32, value: u64 });
export const kvmXcrs = struct('kvm_xcrs', {
  nrXcrs: u32,
  flags: u32,
  xcrs: array(kvmXcr, 16),
  padding: array(u64, 16),
});
/** struct kvm_xcr: KVM_GET_XCRS, KVM_SET_XCRS. */
export type Xcr = Value<typeof kvmXcr>;

export const kvmLapicState = struct('kvm_lapic_state', { regs: bytes(0x400) });
export const kvmMpState = struct('kvm_mp_state', { mpState: u32 });
export const kvmInterrupt = struct('kvm_interrupt', { irq: u32 });
export const kvmEnableCap = struct('kvm_enable_cap', { cap: u32, flags: u32, args: array(u64, 4), pad: bytes(64) });
export const kvmGuestDebug = struct('kvm_guest_debug', {
  control: u32,
  pad: u32,
  arch: struct('kvm_guest_debug_arch', { debugreg: array(u64, 8) }),
});
export const kvmTranslation = struct('kvm_translation', {
  linearAddress: u64,
  physicalAddress: u64,
  valid: u8,
  writeable: u8,
  usermode: u8,
  pad: bytes(5),
});

export const kvmUserspaceMemoryRegion = struct('kvm_userspace_memory_region', {
  slot: u32,
  flags: u32,
  guestPhysAddr: u64,
  memorySize: u64,
  userspaceAddr: u64,
});
export const kvmMsi = struct('kvm_msi', {
  addressLo: u32,
  addressHi: u32,
  data: u32,
  flags: u32,
  devid: u32,
  pad: bytes(12),
});
export const kvmIrqRouting = struct('kvm_irq_routing', { nr: u32, flags: u32 });
/** The union of kvm_irq_routing_entry as its msi member; `u` is as long as the union. */
export const kvmIrqRoutingEntry = struct('kvm_irq_routing_entry', {
  gsi: u32,
  type: u32,
  flags: u32,
  pad: u32,
  u: array(u32, 8),
});
export const kvmIrqLevel = struct('kvm_irq_level', { irq: u32, level: u32 });

/** kvm_run up to the registers shared with KVM, `s.regs`, which begin at its end; `padding` is the union of the exits. */
export const kvmRun = struct('kvm_run', {
  requestInterruptWindow: u8,
  immediateExit: u8,
  padding1: bytes(6),
  exitReason: u32,
  readyForInterruptInjection: u8,
  ifFlag: u8,
  flags: u16,
  cr8: u64,
  apicBase: u64,
  padding: bytes(256),
  kvmValidRegs: u64,
  kvmDirtyRegs: u64,
});
export const kvmSyncRegs = struct('kvm_sync_regs', { regs: kvmRegs, sregs: kvmSregs, events: kvmVcpuEvents });

/** The members of kvm_run's union, each at offset kvmRun.offsets.padding: `<member>` in C is the key here. */
export const kvmRunUnion = {
  hw: struct('kvm_run.hw', { hardwareExitReason: u64 }),
  failEntry: struct('kvm_run.fail_entry', { hardwareEntryFailureReason: u64, cpu: u32 }),
  ex: struct('kvm_run.ex', { exception: u32, errorCode: u32 }),
  io: struct('kvm_run.io', { direction: u8, size: u8, port: u16, count: u32, dataOffset: u64 }),
  debug: struct('kvm_run.debug', {
    arch: struct('kvm_debug_exit_arch', { exception: u32, pad: u32, pc: u64, dr6: u64, dr7: u64 }),
  }),
  mmio: struct('kvm_run.mmio', { physAddr: u64, data: bytes(8), len: u32, isWrite: u8 }),
  hypercall: struct('kvm_run.hypercall', { nr: u64, args: array(u64, 6), ret: u64, longmode: u32 }),
  tprAccess: struct('kvm_run.tpr_access', { rip: u64, isWrite: u32, pad: u32 }),
  internal: struct('kvm_run.internal', { suberror: u32, ndata: u32, data: array(u64, 16) }),
  emulationFailure: struct('kvm_run.emulation_failure', {
    suberror: u32,
    ndata: u32,
    flags: u64,
    insnSize: u8,
    insnBytes: bytes(15),
  }),
  systemEvent: struct('kvm_run.system_event', { type: u32, ndata: u32, data: array(u64, 16) }),
  eoi: struct('kvm_run.eoi', { vector: u8 }),
  msr: struct('kvm_run.msr', { error: u8, pad: bytes(7), reason: u32, index: u32, data: u64 }),
  notify: struct('kvm_run.notify', { flags: u32 }),
  memoryFault: struct('kvm_run.memory_fault', { flags: u64, gpa: u64, size: u64 }),
} as const;
