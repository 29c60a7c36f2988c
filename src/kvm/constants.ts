/**
 * Numbers of <linux/kvm.h> and <asm/kvm.h>, each once, under C's own names without the prefix that their comment gives.
 * test/unit/kvm/abi.test.ts compares all of them with the compiler's.
 */
import * as layout from './layouts.ts';

// ioctl numbers: direction | size of the argument | 0xae | number (asm-generic/ioctl.h).
const WRITE = 1;
const READ = 2;
/** A request whose argument is memory: a typed array or a DataView, never an address (libc.ts). */
type MemoryRequest = number & { readonly takes?: 'memory' };
/** A request whose argument is an integer. */
type ValueRequest = number & { readonly takes?: 'value' };
function number(direction: number, nr: number, type: { size: number }): MemoryRequest {
  return ((direction << 30) | (type.size << 16) | (0xae << 8) | nr) >>> 0;
}
function plain(nr: number): ValueRequest {
  return (0xae << 8) | nr;
}

export const Ioctl = {
  KVM_GET_API_VERSION: plain(0x00),
  KVM_CREATE_VM: plain(0x01),
  KVM_GET_MSR_INDEX_LIST: number(READ | WRITE, 0x02, layout.kvmMsrList),
  KVM_CHECK_EXTENSION: plain(0x03),
  KVM_GET_VCPU_MMAP_SIZE: plain(0x04),
  KVM_GET_SUPPORTED_CPUID: number(READ | WRITE, 0x05, layout.kvmCpuid2),
  KVM_GET_EMULATED_CPUID: number(READ | WRITE, 0x09, layout.kvmCpuid2),
  KVM_GET_MSR_FEATURE_INDEX_LIST: number(READ | WRITE, 0x0a, layout.kvmMsrList),
  KVM_CREATE_VCPU: plain(0x41),
  KVM_SET_USER_MEMORY_REGION: number(WRITE, 0x46, layout.kvmUserspaceMemoryRegion),
  KVM_SET_TSS_ADDR: plain(0x47),
  KVM_SET_IDENTITY_MAP_ADDR: number(WRITE, 0x48, { size: 8 }),
  KVM_IRQ_LINE: number(WRITE, 0x61, layout.kvmIrqLevel),
  KVM_CREATE_IRQCHIP: plain(0x60),
  KVM_SET_GSI_ROUTING: number(WRITE, 0x6a, layout.kvmIrqRouting),
  KVM_SET_BOOT_CPU_ID: plain(0x78),
  KVM_RUN: plain(0x80),
  KVM_GET_REGS: number(READ, 0x81, layout.kvmRegs),
  KVM_SET_REGS: number(WRITE, 0x82, layout.kvmRegs),
  KVM_GET_SREGS: number(READ, 0x83, layout.kvmSregs),
  KVM_SET_SREGS: number(WRITE, 0x84, layout.kvmSregs),
  KVM_TRANSLATE: number(READ | WRITE, 0x85, layout.kvmTranslation),
  KVM_INTERRUPT: number(WRITE, 0x86, layout.kvmInterrupt),
  KVM_GET_MSRS: number(READ | WRITE, 0x88, layout.kvmMsrs),
  KVM_SET_MSRS: number(WRITE, 0x89, layout.kvmMsrs),
  KVM_GET_FPU: number(READ, 0x8c, layout.kvmFpu),
  KVM_SET_FPU: number(WRITE, 0x8d, layout.kvmFpu),
  KVM_GET_LAPIC: number(READ, 0x8e, layout.kvmLapicState),
  KVM_SET_LAPIC: number(WRITE, 0x8f, layout.kvmLapicState),
  KVM_SET_CPUID2: number(WRITE, 0x90, layout.kvmCpuid2),
  KVM_GET_CPUID2: number(READ | WRITE, 0x91, layout.kvmCpuid2),
  KVM_GET_MP_STATE: number(READ, 0x98, layout.kvmMpState),
  KVM_SET_MP_STATE: number(WRITE, 0x99, layout.kvmMpState),
  KVM_NMI: plain(0x9a),
  KVM_SET_GUEST_DEBUG: number(WRITE, 0x9b, layout.kvmGuestDebug),
  KVM_GET_VCPU_EVENTS: number(READ, 0x9f, layout.kvmVcpuEvents),
  KVM_SET_VCPU_EVENTS: number(WRITE, 0xa0, layout.kvmVcpuEvents),
  KVM_GET_DEBUGREGS: number(READ, 0xa1, layout.kvmDebugregs),
  KVM_SET_DEBUGREGS: number(WRITE, 0xa2, layout.kvmDebugregs),
  KVM_SET_TSC_KHZ: plain(0xa2),
  KVM_ENABLE_CAP: number(WRITE, 0xa3, layout.kvmEnableCap),
  KVM_GET_TSC_KHZ: plain(0xa3),
  KVM_GET_STATS_FD: plain(0xce),
  KVM_SIGNAL_MSI: number(WRITE, 0xa5, layout.kvmMsi),
  KVM_GET_XCRS: number(READ, 0xa6, layout.kvmXcrs),
  KVM_SET_XCRS: number(WRITE, 0xa7, layout.kvmXcrs),
  KVM_KVMCLOCK_CTRL: plain(0xad),
  KVM_X86_SET_MSR_FILTER: number(WRITE, 0xc6, layout.kvmMsrFilter),
} as const;
export type IoctlName = keyof typeof Ioctl;
type Taking<Request> = { [Name in IoctlName]: (typeof Ioctl)[Name] extends Request ? Name : never }[IoctlName];
export type MemoryIoctl = Taking<MemoryRequest>;
export type ValueIoctl = Taking<ValueRequest>;

/** What KVM_GET_API_VERSION answers. */
export const API_VERSION = 12;

/** KVM_CAP_* */
export const Cap = {
  IRQCHIP: 0,
  HLT: 1,
  USER_MEMORY: 3,
  SET_TSS_ADDR: 4,
  VAPIC: 6,
  EXT_CPUID: 7,
  CLOCKSOURCE: 8,
  NR_VCPUS: 9,
  NR_MEMSLOTS: 10,
  MP_STATE: 14,
  SYNC_MMU: 16,
  DESTROY_MEMORY_REGION_WORKS: 21,
  USER_NMI: 22,
  SET_GUEST_DEBUG: 23,
  IRQ_ROUTING: 25,
  JOIN_MEMORY_REGIONS_WORKS: 30,
  SET_BOOT_CPU_ID: 34,
  SET_IDENTITY_MAP_ADDR: 37,
  INTERNAL_ERROR_DATA: 40,
  VCPU_EVENTS: 41,
  DEBUGREGS: 50,
  ENABLE_CAP: 54,
  XSAVE: 55,
  XCRS: 56,
  TSC_CONTROL: 60,
  GET_TSC_KHZ: 61,
  MAX_VCPUS: 66,
  TSC_DEADLINE_TIMER: 72,
  SYNC_REGS: 74,
  KVMCLOCK_CTRL: 76,
  SIGNAL_MSI: 77,
  READONLY_MEM: 81,
  ENABLE_CAP_VM: 98,
  CHECK_EXTENSION_VM: 105,
  DISABLE_QUIRKS: 116,
  MULTI_ADDRESS_SPACE: 118,
  SPLIT_IRQCHIP: 121,
  MAX_VCPU_ID: 128,
  X2APIC_API: 129,
  IMMEDIATE_EXIT: 136,
  X86_DISABLE_EXITS: 143,
  GET_MSR_FEATURES: 153,
  EXCEPTION_PAYLOAD: 164,
  X86_USER_SPACE_MSR: 188,
  X86_MSR_FILTER: 189,
  ENFORCE_PV_FEATURE_CPUID: 190,
  X86_BUS_LOCK_EXIT: 193,
  EXIT_ON_EMULATION_FAILURE: 204,
  DISABLE_QUIRKS2: 213,
  VM_TSC_CONTROL: 214,
  X86_TRIPLE_FAULT_EVENT: 218,
  X86_NOTIFY_VMEXIT: 219,
  X86_APIC_BUS_CYCLES_NS: 237,
} as const;
export type Cap = (typeof Cap)[keyof typeof Cap];

/** KVM_EXIT_* */
export const ExitReason = {
  UNKNOWN: 0,
  EXCEPTION: 1,
  IO: 2,
  HYPERCALL: 3,
  DEBUG: 4,
  HLT: 5,
  MMIO: 6,
  IRQ_WINDOW_OPEN: 7,
  SHUTDOWN: 8,
  FAIL_ENTRY: 9,
  INTR: 10,
  SET_TPR: 11,
  TPR_ACCESS: 12,
  NMI: 16,
  INTERNAL_ERROR: 17,
  WATCHDOG: 21,
  SYSTEM_EVENT: 24,
  IOAPIC_EOI: 26,
  HYPERV: 27,
  X86_RDMSR: 29,
  X86_WRMSR: 30,
  DIRTY_RING_FULL: 31,
  AP_RESET_HOLD: 32,
  X86_BUS_LOCK: 33,
  XEN: 34,
  NOTIFY: 37,
  MEMORY_FAULT: 39,
} as const;
export type ExitReason = (typeof ExitReason)[keyof typeof ExitReason];

/** KVM_EXIT_IO_* */
export const IoDirection = {
  IN: 0,
  OUT: 1,
} as const;

/** KVM_INTERNAL_ERROR_* */
export const InternalError = {
  EMULATION: 1,
  SIMUL_EX: 2,
  DELIVERY_EV: 3,
  UNEXPECTED_EXIT_REASON: 4,
} as const;
export type InternalError = (typeof InternalError)[keyof typeof InternalError];

/** KVM_INTERNAL_ERROR_EMULATION_FLAG_* */
export const EmulationFlag = { INSTRUCTION_BYTES: 1 } as const;

/** KVM_SYSTEM_EVENT_* */
export const SystemEvent = {
  SHUTDOWN: 1,
  RESET: 2,
  CRASH: 3,
} as const;
export type SystemEvent = (typeof SystemEvent)[keyof typeof SystemEvent];

/** KVM_NOTIFY_* */
export const NotifyFlag = {
  CONTEXT_INVALID: 1,
} as const;

/** KVM_RUN_X86_* */
export const RunFlag = {
  SMM: 1,
  BUS_LOCK: 2,
} as const;

/** KVM_SYNC_X86_*, the classes of registers that kvm_run can carry (KVM_CAP_SYNC_REGS) */
export const SyncRegs = {
  REGS: 1,
  SREGS: 2,
  EVENTS: 4,
} as const;

/** KVM_MP_STATE_* */
export const MpState = {
  RUNNABLE: 0,
  UNINITIALIZED: 1,
  INIT_RECEIVED: 2,
  HALTED: 3,
  SIPI_RECEIVED: 4,
} as const;
export type MpState = (typeof MpState)[keyof typeof MpState];

/** KVM_MEM_* */
export const MemoryFlag = {
  LOG_DIRTY_PAGES: 1,
  READONLY: 2,
} as const;

/** KVM_MSR_EXIT_REASON_* */
export const MsrExitReason = {
  INVAL: 1,
  UNKNOWN: 2,
  FILTER: 4,
} as const;

/** KVM_MSR_FILTER_* */
export const MsrFilterFlag = {
  READ: 1,
  WRITE: 2,
  DEFAULT_ALLOW: 0,
  DEFAULT_DENY: 1,
  MAX_RANGES: 16,
} as const;

/** KVM_X2APIC_*, arguments of KVM_CAP_X2APIC_API */
export const X2apicFlag = {
  API_USE_32BIT_IDS: 1,
  API_DISABLE_BROADCAST_QUIRK: 2,
  ENABLE_SUPPRESS_EOI_BROADCAST: 4,
  DISABLE_SUPPRESS_EOI_BROADCAST: 8,
} as const;

/** KVM_CPUID_FLAG_* */
export const CpuidFlag = {
  SIGNIFCANT_INDEX: 1,
  STATEFUL_FUNC: 2,
  STATE_READ_NEXT: 4,
} as const;

/** KVM_VCPUEVENT_VALID_* */
export const VcpuEventValid = {
  NMI_PENDING: 0x01,
  SIPI_VECTOR: 0x02,
  SHADOW: 0x04,
  SMM: 0x08,
  PAYLOAD: 0x10,
  TRIPLE_FAULT: 0x20,
} as const;

/** KVM_X86_SHADOW_* */
export const InterruptShadow = {
  INT_MOV_SS: 0x01,
  INT_STI: 0x02,
} as const;

/** KVM_IRQ_ROUTING_* */
export const IrqRoutingType = {
  IRQCHIP: 1,
  MSI: 2,
} as const;

/** KVM_GUESTDBG_* */
export const GuestDebug = {
  ENABLE: 0x1,
  SINGLESTEP: 0x2,
  USE_SW_BP: 0x10000,
  USE_HW_BP: 0x20000,
  BLOCKIRQ: 0x100000,
} as const;

/** KVM_X86_DISABLE_EXITS_*, arguments of KVM_CAP_X86_DISABLE_EXITS */
export const DisableExits = {
  MWAIT: 1,
  HLT: 2,
  PAUSE: 4,
  CSTATE: 8,
} as const;

/** KVM_X86_QUIRK_*, arguments of KVM_CAP_DISABLE_QUIRKS2 */
export const Quirk = {
  LINT0_REENABLED: 0x01,
  CD_NW_CLEARED: 0x02,
  LAPIC_MMIO_HOLE: 0x04,
  OUT_7E_INC_RIP: 0x08,
  MISC_ENABLE_NO_MWAIT: 0x10,
  FIX_HYPERCALL_INSN: 0x20,
  MWAIT_NEVER_UD_FAULTS: 0x40,
} as const;

/** KVM_BUS_LOCK_DETECTION_*, arguments of KVM_CAP_X86_BUS_LOCK_EXIT */
export const BusLockDetection = {
  OFF: 1,
  EXIT: 2,
} as const;

const exitNames = names('KVM_EXIT_', ExitReason);
const capNames = names('KVM_CAP_', Cap);

/** `KVM_EXIT_HLT` for 5; an unknown reason as its number. */
export function exitName(reason: number): string {
  return exitNames.get(reason) ?? `exit reason ${reason}`;
}

/** `KVM_CAP_IRQCHIP` for 0. */
export function capName(capability: number): string {
  return capNames.get(capability) ?? `capability ${capability}`;
}

function names(prefix: string, table: Readonly<Record<string, number>>): ReadonlyMap<number, string> {
  return new Map(Object.entries(table).map(([name, value]) => [value, prefix + name]));
}
