/**
 * A decoded view of kvm_run (linux/kvm.h, struct kvm_run): what KVM_RUN takes and why it returned.
 *
 * Every accessor is a typed-array read or write at a constant index: no allocation on the exit path, 64-bit values as
 * halves. The members of the union (`io*`, `mmio*`, `msr*` ...) mean something only for the exit reason named in their
 * comment. One view belongs to one thread's mapping; it must not be used while the vCPU runs on another thread.
 */
import { EmulationFlag, InternalError, IoDirection, SyncRegs } from './constants.ts';
import { describeExit } from './describe.ts';
import { kvmRun, kvmRunUnion, kvmSyncRegs, kvmVcpuEvents } from './layouts.ts';
import { native, type RunMapping } from './native.ts';

const H = kvmRun.offsets;
const U = kvmRun.offsets.padding;
const EVENTS = kvmRun.size + kvmSyncRegs.offsets.events;
const EVENTS_INTERRUPT = EVENTS + kvmVcpuEvents.offsets.interrupt;
const INTERRUPT = kvmVcpuEvents.fields.interrupt.offsets;
const EVENTS_NMI = EVENTS + kvmVcpuEvents.offsets.nmi;
const NMI = kvmVcpuEvents.fields.nmi.offsets;
const { hw, failEntry, ex, io, debug, mmio, hypercall, tprAccess, internal, emulationFailure } = kvmRunUnion;
const { systemEvent, eoi, msr, notify, memoryFault } = kvmRunUnion;
const DEBUG_ARCH = debug.fields.arch.offsets;

// Indexes into the byte, 16-bit and 32-bit views.
const REQUEST_WINDOW_8 = H.requestInterruptWindow;
const IMMEDIATE_EXIT_8 = H.immediateExit;
const EXIT_REASON_32 = H.exitReason >> 2;
const READY_8 = H.readyForInterruptInjection;
const IF_FLAG_8 = H.ifFlag;
const FLAGS_16 = H.flags >> 1;
const CR8_32 = H.cr8 >> 2;
const APIC_BASE_32 = H.apicBase >> 2;
const HW_REASON_32 = (U + hw.offsets.hardwareExitReason) >> 2;
const FAIL_REASON_32 = (U + failEntry.offsets.hardwareEntryFailureReason) >> 2;
const FAIL_CPU_32 = (U + failEntry.offsets.cpu) >> 2;
const EXCEPTION_32 = (U + ex.offsets.exception) >> 2;
const EXCEPTION_ERROR_32 = (U + ex.offsets.errorCode) >> 2;
const IO_DIRECTION_8 = U + io.offsets.direction;
const IO_SIZE_8 = U + io.offsets.size;
const IO_PORT_16 = (U + io.offsets.port) >> 1;
const IO_COUNT_32 = (U + io.offsets.count) >> 2;
const IO_DATA_OFFSET_32 = (U + io.offsets.dataOffset) >> 2;
const MMIO_ADDRESS_32 = (U + mmio.offsets.physAddr) >> 2;
const MMIO_DATA_8 = U + mmio.offsets.data;
const MMIO_DATA_32 = MMIO_DATA_8 >> 2;
const MMIO_LENGTH_32 = (U + mmio.offsets.len) >> 2;
const MMIO_IS_WRITE_8 = U + mmio.offsets.isWrite;
const HYPERCALL_NR_32 = (U + hypercall.offsets.nr) >> 2;
const HYPERCALL_ARGS_32 = (U + hypercall.offsets.args) >> 2;
const HYPERCALL_RET_32 = (U + hypercall.offsets.ret) >> 2;
const TPR_RIP_32 = (U + tprAccess.offsets.rip) >> 2;
const TPR_IS_WRITE_32 = (U + tprAccess.offsets.isWrite) >> 2;
const SUBERROR_32 = (U + internal.offsets.suberror) >> 2;
const INTERNAL_COUNT_32 = (U + internal.offsets.ndata) >> 2;
const INTERNAL_DATA = U + internal.offsets.data;
const EMULATION_FLAGS_32 = (U + emulationFailure.offsets.flags) >> 2;
const INSTRUCTION_SIZE_8 = U + emulationFailure.offsets.insnSize;
const INSTRUCTION_BYTES = U + emulationFailure.offsets.insnBytes;
const EVENT_TYPE_32 = (U + systemEvent.offsets.type) >> 2;
const EVENT_COUNT_32 = (U + systemEvent.offsets.ndata) >> 2;
const EVENT_DATA = U + systemEvent.offsets.data;
const EOI_VECTOR_8 = U + eoi.offsets.vector;
const MSR_ERROR_8 = U + msr.offsets.error;
const MSR_REASON_32 = (U + msr.offsets.reason) >> 2;
const MSR_INDEX_32 = (U + msr.offsets.index) >> 2;
const MSR_DATA_32 = (U + msr.offsets.data) >> 2;
const DEBUG_EXCEPTION_32 = (U + DEBUG_ARCH.exception) >> 2;
const DEBUG_PC = U + DEBUG_ARCH.pc;
const DEBUG_DR6_32 = (U + DEBUG_ARCH.dr6) >> 2;
const DEBUG_DR7_32 = (U + DEBUG_ARCH.dr7) >> 2;
const NOTIFY_FLAGS_32 = (U + notify.offsets.flags) >> 2;
const FAULT_GPA = U + memoryFault.offsets.gpa;
const FAULT_SIZE = U + memoryFault.offsets.size;

const VALID_REGS_32 = H.kvmValidRegs >> 2;
const DIRTY_REGS_32 = H.kvmDirtyRegs >> 2;
const INTERRUPT_INJECTED_8 = EVENTS_INTERRUPT + INTERRUPT.injected;
const INTERRUPT_VECTOR_8 = EVENTS_INTERRUPT + INTERRUPT.nr;
const INTERRUPT_SOFT_8 = EVENTS_INTERRUPT + INTERRUPT.soft;
const NMIS_MASKED_8 = EVENTS_NMI + NMI.masked;
const NMI_INJECTED_8 = EVENTS_NMI + NMI.injected;
const PENDING_NMIS_8 = EVENTS_NMI + NMI.pending;
const EVENT_FLAGS_32 = (EVENTS + kvmVcpuEvents.offsets.flags) >> 2;

const MAX_DATA = 16;

/**
 * A decoded view of kvm_run (linux/kvm.h): what KVM_RUN takes and why it returned. Nothing here allocates unless it
 * says so; 64-bit values come as halves, numbers unsigned. `io*`, `mmio*`, `msr*` and the like mean something only
 * for their exit reason. One view belongs to one thread's mapping and is not used while the vCPU runs elsewhere.
 */
export class KvmRun {
  /** The whole mapping, for data at `ioDataOffset`. Length 0 after `unmap`. */
  readonly bytes: Uint8Array;
  private readonly u16: Uint16Array;
  private readonly u32: Uint32Array;
  private readonly view: DataView;
  private readonly mapping: RunMapping | undefined;
  /** For `native.run`; -1 for a view of memory that is not a mapping. */
  readonly handle: number;

  /** @param memory a mapping, or (in tests) any memory laid out as kvm_run */
  constructor(memory: RunMapping | ArrayBuffer) {
    const buffer = memory instanceof ArrayBuffer ? memory : memory.buffer;
    this.mapping = memory instanceof ArrayBuffer ? undefined : memory;
    this.handle = this.mapping?.handle ?? -1;
    this.bytes = new Uint8Array(buffer);
    this.u16 = new Uint16Array(buffer);
    this.u32 = new Uint32Array(buffer);
    this.view = new DataView(buffer);
  }

  /** KVM_RUN on this thread: 0 when there is an exit to look at, else -errno (see `native.run`). */
  run(): number {
    return native.run(this.handle);
  }

  /** Gives the mapping back now rather than when it is collected. Nothing else may be called on this view after it. */
  unmap(): void {
    if (this.mapping !== undefined) native.unmapRun(this.mapping);
  }

  // What goes in.

  /** Ask for KVM_EXIT_IRQ_WINDOW_OPEN as soon as the guest can take an interrupt. */
  get requestInterruptWindow(): boolean {
    return this.bytes[REQUEST_WINDOW_8] !== 0;
  }
  /** As the getter. */
  set requestInterruptWindow(value: boolean) {
    this.bytes[REQUEST_WINDOW_8] = value ? 1 : 0;
  }

  /** True: the next `run` only completes the previous exit and answers -EINTR; `run` clears it. */
  get immediateExit(): boolean {
    return this.bytes[IMMEDIATE_EXIT_8] !== 0;
  }
  /** As the getter. */
  set immediateExit(value: boolean) {
    this.bytes[IMMEDIATE_EXIT_8] = value ? 1 : 0;
  }

  /** CR8 (TPR bits 7:4). Taken from here at each entry and reported here at each exit, unless the APIC is in the kernel. */
  get cr8(): number {
    return this.u32[CR8_32] ?? 0;
  }
  /** As the getter. */
  set cr8(value: number) {
    this.u32[CR8_32] = value;
  }

  /**
   * Has KVM leave its event state in kvm_run at each return (KVM_CAP_SYNC_REGS with KVM_SYNC_X86_EVENTS, Linux 4.17), or not.
   * 80 ns a return.
   */
  shareEvents(share: boolean): void {
    this.u32[VALID_REGS_32] = share ? SyncRegs.EVENTS : 0;
    if (!share) this.bytes.fill(0, EVENTS, EVENTS + kvmVcpuEvents.size);
  }

  /**
   * What `Vcpu.interrupt` does, without the ioctl: the vector is taken at the next entry. 0.01 us against 5 us on the
   * software KVM, whose every vCPU ioctl loads and puts the vCPU. Only when `readyForInterruptInjection`, at most once for
   * each return of `run`, and not after an ioctl has changed the vCPU's events since that return (`nmi` is harmless). Events
   * have to be shared unless NMIs are known not to be masked: the mask is the one thing here that "ready" leaves open.
   */
  injectInterrupt(vector: number): void {
    this.bytes[INTERRUPT_INJECTED_8] = 1;
    this.bytes[INTERRUPT_VECTOR_8] = vector;
    this.bytes[INTERRUPT_SOFT_8] = 0;
    this.u32[EVENT_FLAGS_32] = 0; // leave NMIs, the interrupt shadow and SMM as they are by now
    this.u32[DIRTY_REGS_32] = SyncRegs.EVENTS;
  }

  /** NMIs that KVM held and had not begun to deliver when `run` returned, 0-2. Needs `shareEvents`. */
  get pendingNmis(): number {
    return this.bytes[PENDING_NMIS_8] ?? 0;
  }

  /** The guest is on its way into its NMI handler, or in it: no other NMI before IRET. Needs `shareEvents`. */
  get nmisMasked(): boolean {
    return this.bytes[NMIS_MASKED_8] !== 0 || this.bytes[NMI_INJECTED_8] !== 0;
  }

  // What comes out, whatever the reason.

  /** One of ExitReason. */
  get exitReason(): number {
    return this.u32[EXIT_REASON_32] ?? 0;
  }
  /** KVM_INTERRUPT may be called: it would be injected at the next entry. */
  get readyForInterruptInjection(): boolean {
    return this.bytes[READY_8] !== 0;
  }
  /** The guest's RFLAGS.IF. */
  get ifFlag(): boolean {
    return this.bytes[IF_FLAG_8] !== 0;
  }
  /** KVM_RUN_X86_*: in SMM, after a bus lock. */
  get flags(): number {
    return this.u16[FLAGS_16] ?? 0;
  }
  /** IA32_APIC_BASE bits 31:0, as the guest left it. */
  get apicBaseLow(): number {
    return this.u32[APIC_BASE_32] ?? 0;
  }
  /** IA32_APIC_BASE bits 63:32, as the guest left it. */
  get apicBaseHigh(): number {
    return this.u32[APIC_BASE_32 + 1] ?? 0;
  }

  // KVM_EXIT_IO. Data of `ioCount` items of `ioSize` bytes at `ioDataOffset` in `bytes`.

  /** False: the guest reads (`in`). */
  get ioIsOut(): boolean {
    return this.bytes[IO_DIRECTION_8] === IoDirection.OUT;
  }
  /** 1, 2 or 4 bytes an item. */
  get ioSize(): number {
    return this.bytes[IO_SIZE_8] ?? 0;
  }
  /** 0-0xffff. */
  get ioPort(): number {
    return this.u16[IO_PORT_16] ?? 0;
  }
  /** Items; more than 1 for string instructions. */
  get ioCount(): number {
    return this.u32[IO_COUNT_32] ?? 0;
  }
  /** Bytes from the start of kvm_run (below 2^32: it is inside the mapping). */
  get ioDataOffset(): number {
    return this.u32[IO_DATA_OFFSET_32] ?? 0;
  }
  /** Item `index` of the data, unsigned. */
  ioValue(index = 0): number {
    const size = this.ioSize;
    const offset = this.ioDataOffset + index * size;
    if (size === 1) return this.bytes[offset] ?? 0;
    if (size === 2) return this.u16[offset >> 1] ?? 0;
    return this.u32[offset >> 2] ?? 0;
  }
  /** Answers item `index` of an `in`. */
  setIoValue(index: number, value: number): void {
    const size = this.ioSize;
    const offset = this.ioDataOffset + index * size;
    if (size === 1) this.bytes[offset] = value;
    else if (size === 2) this.u16[offset >> 1] = value;
    else this.u32[offset >> 2] = value;
  }

  // KVM_EXIT_MMIO.

  /** Guest-physical; below 2^52, so a number is exact. */
  get mmioAddress(): number {
    return (this.u32[MMIO_ADDRESS_32] ?? 0) + (this.u32[MMIO_ADDRESS_32 + 1] ?? 0) * 0x1_0000_0000;
  }
  /** 1 to 8 bytes. */
  get mmioLength(): number {
    return this.u32[MMIO_LENGTH_32] ?? 0;
  }
  /** False: the guest reads. */
  get mmioIsWrite(): boolean {
    return this.bytes[MMIO_IS_WRITE_8] !== 0;
  }
  /** Bytes 0-3 of the data, unsigned, cut to `mmioLength` (KVM leaves the rest of the 8 bytes as they were). */
  mmioValue(): number {
    const data = this.u32[MMIO_DATA_32] ?? 0;
    const length = this.u32[MMIO_LENGTH_32] ?? 0;
    return length >= 4 ? data : data & ((1 << (length * 8)) - 1);
  }
  /** Answers a read. @param high bytes 4-7, for reads longer than 4 */
  setMmioValue(low: number, high = 0): void {
    this.u32[MMIO_DATA_32] = low;
    this.u32[MMIO_DATA_32 + 1] = high;
  }
  /** Bytes 4-7, for accesses longer than 4; not cut. */
  mmioValueHigh(): number {
    return this.u32[MMIO_DATA_32 + 1] ?? 0;
  }
  /** Byte `index` (0-7) of the data. */
  mmioByte(index: number): number {
    return this.bytes[MMIO_DATA_8 + index] ?? 0;
  }
  /** Answers byte `index` (0-7) of a read. */
  setMmioByte(index: number, value: number): void {
    this.bytes[MMIO_DATA_8 + index] = value;
  }

  // KVM_EXIT_X86_RDMSR, KVM_EXIT_X86_WRMSR. A read is answered in msrDataLow/High; msrError true gives the guest #GP.

  /** KVM_EXIT_X86_RDMSR, KVM_EXIT_X86_WRMSR: which. */
  get msrIndex(): number {
    return this.u32[MSR_INDEX_32] ?? 0;
  }
  /** KVM_MSR_EXIT_REASON_*. */
  get msrReason(): number {
    return this.u32[MSR_REASON_32] ?? 0;
  }
  /** Bits 31:0 of what a WRMSR writes. */
  get msrDataLow(): number {
    return this.u32[MSR_DATA_32] ?? 0;
  }
  /** Answers bits 31:0 of a RDMSR. */
  set msrDataLow(value: number) {
    this.u32[MSR_DATA_32] = value;
  }
  /** Bits 63:32 of what a WRMSR writes. */
  get msrDataHigh(): number {
    return this.u32[MSR_DATA_32 + 1] ?? 0;
  }
  /** Answers bits 63:32 of a RDMSR. */
  set msrDataHigh(value: number) {
    this.u32[MSR_DATA_32 + 1] = value;
  }
  /** Whether the access was answered with #GP. */
  get msrError(): boolean {
    return this.bytes[MSR_ERROR_8] !== 0;
  }
  /** True answers the access with #GP. */
  set msrError(value: boolean) {
    this.bytes[MSR_ERROR_8] = value ? 1 : 0;
  }

  // KVM_EXIT_IOAPIC_EOI (split irqchip).

  /** KVM_EXIT_IOAPIC_EOI: 0-255. */
  get eoiVector(): number {
    return this.bytes[EOI_VECTOR_8] ?? 0;
  }

  // KVM_EXIT_HYPERCALL.

  /** KVM_EXIT_HYPERCALL: the low half of RAX. */
  get hypercallNumber(): number {
    return this.u32[HYPERCALL_NR_32] ?? 0;
  }
  /** Low half of argument `index` (0-5). */
  hypercallArgumentLow(index: number): number {
    return this.u32[HYPERCALL_ARGS_32 + index * 2] ?? 0;
  }
  /** High half of argument `index` (0-5). */
  hypercallArgumentHigh(index: number): number {
    return this.u32[HYPERCALL_ARGS_32 + index * 2 + 1] ?? 0;
  }
  /** Answers the hypercall, in halves. */
  setHypercallResult(low: number, high: number): void {
    this.u32[HYPERCALL_RET_32] = low;
    this.u32[HYPERCALL_RET_32 + 1] = high;
  }

  // KVM_EXIT_TPR_ACCESS.

  /** KVM_EXIT_TPR_ACCESS: where, low half. */
  get tprAccessRipLow(): number {
    return this.u32[TPR_RIP_32] ?? 0;
  }
  /** KVM_EXIT_TPR_ACCESS: false is a read. */
  get tprAccessIsWrite(): boolean {
    return this.u32[TPR_IS_WRITE_32] !== 0;
  }

  // The unhappy ones; bigint, they are not hot.

  /** KVM_EXIT_INTERNAL_ERROR: KVM_INTERNAL_ERROR_*. */
  get internalSuberror(): number {
    return this.u32[SUBERROR_32] ?? 0;
  }
  /** What KVM says besides, up to 16 values. Allocates. */
  internalData(): bigint[] {
    return this.readData(INTERNAL_DATA, this.u32[INTERNAL_COUNT_32] ?? 0);
  }
  /** The instruction KVM could not emulate (KVM_INTERNAL_ERROR_EMULATION), empty when KVM does not say. */
  internalInstructionBytes(): Uint8Array {
    const flags = this.u32[EMULATION_FLAGS_32] ?? 0;
    const known = (this.u32[INTERNAL_COUNT_32] ?? 0) >= 3 && this.internalSuberror === InternalError.EMULATION;
    if (!known || (flags & EmulationFlag.INSTRUCTION_BYTES) === 0) return new Uint8Array(0);
    const size = Math.min(this.bytes[INSTRUCTION_SIZE_8] ?? 0, 15);
    return this.bytes.slice(INSTRUCTION_BYTES, INSTRUCTION_BYTES + size);
  }
  /** KVM_EXIT_UNKNOWN: the VMX or SVM exit code. */
  get hardwareExitReason(): number {
    return this.u32[HW_REASON_32] ?? 0;
  }
  /** KVM_EXIT_FAIL_ENTRY: the VM-instruction error or exit reason (low half). */
  get failEntryReason(): number {
    return this.u32[FAIL_REASON_32] ?? 0;
  }
  /** KVM_EXIT_FAIL_ENTRY: the host CPU on which it failed. */
  get failEntryCpu(): number {
    return this.u32[FAIL_CPU_32] ?? 0;
  }
  /** KVM_EXIT_EXCEPTION */
  get exception(): number {
    return this.u32[EXCEPTION_32] ?? 0;
  }
  /** KVM_EXIT_EXCEPTION: its error code. */
  get exceptionErrorCode(): number {
    return this.u32[EXCEPTION_ERROR_32] ?? 0;
  }
  /** KVM_EXIT_SYSTEM_EVENT: KVM_SYSTEM_EVENT_*. */
  get systemEventType(): number {
    return this.u32[EVENT_TYPE_32] ?? 0;
  }
  /** What KVM says besides, up to 16 values. Allocates. */
  systemEventData(): bigint[] {
    return this.readData(EVENT_DATA, this.u32[EVENT_COUNT_32] ?? 0);
  }
  /** KVM_EXIT_DEBUG: the exception (1 #DB, 3 #BP) and where. */
  get debugException(): number {
    return this.u32[DEBUG_EXCEPTION_32] ?? 0;
  }
  /** KVM_EXIT_DEBUG: linear address of the instruction. */
  get debugPc(): bigint {
    return this.view.getBigUint64(DEBUG_PC, true);
  }
  /** DR6, low half. */
  get debugDr6(): number {
    return this.u32[DEBUG_DR6_32] ?? 0;
  }
  /** DR7, low half. */
  get debugDr7(): number {
    return this.u32[DEBUG_DR7_32] ?? 0;
  }
  /** KVM_EXIT_NOTIFY: KVM_NOTIFY_CONTEXT_INVALID. */
  get notifyFlags(): number {
    return this.u32[NOTIFY_FLAGS_32] ?? 0;
  }
  /** KVM_EXIT_MEMORY_FAULT (KVM_RUN then answers -EFAULT). */
  get memoryFaultAddress(): bigint {
    return this.view.getBigUint64(FAULT_GPA, true);
  }
  /** How long the range is. */
  get memoryFaultBytes(): bigint {
    return this.view.getBigUint64(FAULT_SIZE, true);
  }

  /** One line about the exit, for errors and logs. Not for the exit path: it allocates. */
  describe(): string {
    return describeExit(this);
  }

  private readData(offset: number, count: number): bigint[] {
    return Array.from({ length: Math.min(count, MAX_DATA) }, (_, i) => this.view.getBigUint64(offset + i * 8, true));
  }
}
