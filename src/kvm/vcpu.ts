/**
 * A vCPU's descriptor: KVM's vCPU ioctls. Any thread of the process may hold its own handle (`Vcpu.fromFd`), but KVM makes
 * an ioctl wait while another thread is inside KVM_RUN. Registers are objects with the kernel's member names and bigints
 * for 64 bits; the two hot calls (`interrupt`, `nmi`) allocate nothing.
 */
import { constants } from 'node:os';
import { hex } from '../hex.ts';
import { type Cap, capName } from './constants.ts';
import { readCpuid, writeCpuid } from './cpuid.ts';
import { KvmError } from './errors.ts';
import {
  type CpuidEntry,
  type Debugregs,
  type Fpu,
  kvmDebugregs,
  kvmEnableCap,
  kvmFpu,
  kvmGuestDebug,
  kvmLapicState,
  kvmMsrEntry,
  kvmMsrs,
  kvmRegs,
  kvmSregs,
  kvmTranslation,
  kvmVcpuEvents,
  kvmXcrs,
  type Regs,
  type Sregs,
  type VcpuEvents,
  type Xcr,
} from './layouts.ts';
import { close, ioctl, ioctlWith, scratch, tryIoctl } from './libc.ts';
import { native } from './native.ts';
import { KvmRun } from './run.ts';
import { readVcpuStats } from './stats.ts';

/** A model-specific register and its value. */
export interface Msr {
  readonly index: number;
  readonly value: bigint;
}

const { EEXIST } = constants.errno;

/**
 * A vCPU's descriptor: KVM's vCPU ioctls, by their names; every one throws KvmError when the host says no. Any thread
 * may hold a handle of its own, but an ioctl waits while another thread is inside KVM_RUN. 64-bit values are bigints.
 */
export class Vcpu {
  readonly fd: number;
  private readonly mmapSize: number;

  constructor(fd: number, mmapSize: number) {
    this.fd = fd;
    this.mmapSize = mmapSize;
  }

  /** Another handle of the same descriptor, for another thread. Only one of them may be closed. */
  static fromFd(fd: number, mmapSize: number): Vcpu {
    return new Vcpu(fd, mmapSize);
  }

  /** Maps kvm_run into this thread: each thread that runs the vCPU needs a view of its own. */
  mapRun(): KvmRun {
    return new KvmRun(native.mapRun(this.fd, this.mmapSize));
  }

  /** KVM_GET_REGS. */
  getRegs(): Regs {
    ioctl(this.fd, 'KVM_GET_REGS');
    return kvmRegs.read(scratch.view, 0);
  }
  /** All of them: what is left out becomes 0 (RFLAGS bit 1 is set by KVM). */
  setRegs(regs: Partial<Regs>): void {
    kvmRegs.encode(scratch.view, 0, regs);
    ioctl(this.fd, 'KVM_SET_REGS');
  }

  /** KVM_GET_SREGS. */
  getSregs(): Sregs {
    ioctl(this.fd, 'KVM_GET_SREGS');
    return kvmSregs.read(scratch.view, 0);
  }
  /** KVM_SET_SREGS: all of them. */
  setSregs(sregs: Sregs): void {
    kvmSregs.encode(scratch.view, 0, sregs);
    ioctl(this.fd, 'KVM_SET_SREGS');
  }

  /** @throws KvmError (EINVAL) naming the first MSR that KVM would not read */
  getMsrs(indexes: readonly number[]): Msr[] {
    const msrs = this.getMsrsBeforeRefusal(indexes);
    const refused = indexes[msrs.length];
    if (refused !== undefined) throw msrError('KVM_GET_MSRS', refused);
    return msrs;
  }
  /** KVM_GET_MSRS: those before the first that KVM would not read, at most 256. */
  getMsrsBeforeRefusal(indexes: readonly number[]): Msr[] {
    const { view } = scratch;
    kvmMsrs.encode(view, 0, { nmsrs: indexes.length });
    for (let i = 0; i < indexes.length; i++) putMsr(view, i, indexes[i] ?? 0, 0n);
    const msrs: Msr[] = new Array(ioctl(this.fd, 'KVM_GET_MSRS'));
    for (let i = 0; i < msrs.length; i++) {
      msrs[i] = { index: indexes[i] ?? 0, value: view.getBigUint64(msrOffset(i) + kvmMsrEntry.offsets.data, true) };
    }
    return msrs;
  }

  /** @throws KvmError (EINVAL) naming the first MSR that KVM would not write; those before it are written */
  setMsrs(msrs: readonly Msr[]): void {
    const refused = msrs[this.setMsrsBeforeRefusal(msrs)];
    if (refused !== undefined) throw msrError('KVM_SET_MSRS', refused.index);
  }
  /** KVM_SET_MSRS: those before the first that KVM would not write, at most 256. @returns how many that were */
  setMsrsBeforeRefusal(msrs: readonly Msr[]): number {
    kvmMsrs.encode(scratch.view, 0, { nmsrs: msrs.length });
    for (let i = 0; i < msrs.length; i++) putMsr(scratch.view, i, msrs[i]?.index ?? 0, msrs[i]?.value ?? 0n);
    return ioctl(this.fd, 'KVM_SET_MSRS');
  }

  /** KVM_GET_VCPU_EVENTS. */
  getVcpuEvents(): VcpuEvents {
    ioctl(this.fd, 'KVM_GET_VCPU_EVENTS');
    return kvmVcpuEvents.read(scratch.view, 0);
  }
  /** `flags` (KVM_VCPUEVENT_VALID_*) says which of the optional members are taken. */
  setVcpuEvents(events: VcpuEvents): void {
    kvmVcpuEvents.encode(scratch.view, 0, events);
    ioctl(this.fd, 'KVM_SET_VCPU_EVENTS');
  }

  /** KVM_MP_STATE_*. */
  getMpState(): number {
    ioctl(this.fd, 'KVM_GET_MP_STATE');
    return scratch.words[0] ?? 0;
  }
  /** KVM_SET_MP_STATE. @param state KVM_MP_STATE_* */
  setMpState(state: number): void {
    scratch.words[0] = state;
    ioctl(this.fd, 'KVM_SET_MP_STATE');
  }

  /** The register page, 1,024 bytes, of an in-kernel APIC. @param into where to put it, to spare an allocation */
  getLapic(into: Uint8Array = new Uint8Array(kvmLapicState.size)): Uint8Array {
    ioctl(this.fd, 'KVM_GET_LAPIC');
    into.set(scratch.bytes.subarray(0, kvmLapicState.size));
    return into;
  }
  /** KVM_SET_LAPIC. @param page 1,024 bytes */
  setLapic(page: Uint8Array): void {
    if (page.length !== kvmLapicState.size) throw new RangeError(`an APIC page has 1024 bytes, not ${page.length}`);
    scratch.bytes.set(page);
    ioctl(this.fd, 'KVM_SET_LAPIC');
  }

  /** KVM_GET_FPU. */
  getFpu(): Fpu {
    ioctl(this.fd, 'KVM_GET_FPU');
    return kvmFpu.read(scratch.view, 0);
  }
  /** KVM_SET_FPU. */
  setFpu(fpu: Fpu): void {
    kvmFpu.encode(scratch.view, 0, fpu);
    ioctl(this.fd, 'KVM_SET_FPU');
  }

  /** KVM_GET_DEBUGREGS. */
  getDebugregs(): Debugregs {
    ioctl(this.fd, 'KVM_GET_DEBUGREGS');
    return kvmDebugregs.read(scratch.view, 0);
  }
  /** KVM_SET_DEBUGREGS. */
  setDebugregs(debugregs: Debugregs): void {
    kvmDebugregs.encode(scratch.view, 0, debugregs);
    ioctl(this.fd, 'KVM_SET_DEBUGREGS');
  }

  /** KVM_GET_XCRS. */
  getXcrs(): Xcr[] {
    ioctl(this.fd, 'KVM_GET_XCRS');
    const { nrXcrs, xcrs } = kvmXcrs.read(scratch.view, 0);
    return xcrs.slice(0, nrXcrs);
  }
  /** KVM_SET_XCRS. */
  setXcrs(xcrs: readonly Xcr[]): void {
    kvmXcrs.encode(scratch.view, 0, { nrXcrs: xcrs.length, xcrs: [...xcrs] });
    ioctl(this.fd, 'KVM_SET_XCRS');
  }

  /** KVM_GET_CPUID2. */
  getCpuid2(): CpuidEntry[] {
    return readCpuid(this.fd, 'KVM_GET_CPUID2');
  }
  /** Before the first KVM_RUN. */
  setCpuid2(entries: readonly CpuidEntry[]): void {
    writeCpuid(this.fd, entries);
  }

  /** KVM_SET_GUEST_DEBUG. @param control KVM_GUESTDBG_* @param debugreg DR0-DR7, for hardware breakpoints */
  setGuestDebug(control: number, debugreg: readonly bigint[] = []): void {
    kvmGuestDebug.encode(scratch.view, 0, { control, arch: { debugreg: [...debugreg] } });
    ioctl(this.fd, 'KVM_SET_GUEST_DEBUG');
  }

  /** Walks the guest's page tables. Undefined when the linear address is not mapped. */
  translate(linearAddress: bigint): bigint | undefined {
    kvmTranslation.encode(scratch.view, 0, { linearAddress: linearAddress });
    ioctl(this.fd, 'KVM_TRANSLATE');
    const { valid, physicalAddress } = kvmTranslation.read(scratch.view, 0);
    return valid === 0 ? undefined : physicalAddress;
  }

  /** KVM_ENABLE_CAP; up to four arguments. */
  enableCap(capability: Cap, ...args: readonly (number | bigint)[]): void {
    kvmEnableCap.encode(scratch.view, 0, { cap: capability, args: args.map(BigInt) });
    ioctl(this.fd, 'KVM_ENABLE_CAP', scratch.bytes, capName(capability));
  }

  /**
   * Queues an external interrupt for the next entry (APIC not in the kernel). Only when run.readyForInterruptInjection.
   * @returns false when one is queued already
   */
  interrupt(vector: number): boolean {
    scratch.words[0] = vector;
    const result = tryIoctl(this.fd, 'KVM_INTERRUPT');
    if (result === 0) return true;
    if (result === -EEXIST) return false;
    throw new KvmError('KVM_INTERRUPT', -result, `vector ${vector}`);
  }

  /** Queues an NMI; KVM holds at most two. */
  nmi(): void {
    ioctlWith(this.fd, 'KVM_NMI', 0);
  }

  /** VM exits since the vCPU was made, by KVM's own count; undefined where this kernel keeps none (before 5.14). */
  exits(): number | undefined {
    return readVcpuStats(this.fd, ['exits'])?.exits;
  }

  /** KVM_GET_TSC_KHZ. */
  getTscKhz(): number {
    return ioctlWith(this.fd, 'KVM_GET_TSC_KHZ', 0);
  }
  /** Without hardware TSC scaling, KVM only takes frequencies close to the host's. */
  setTscKhz(khz: number): void {
    ioctlWith(this.fd, 'KVM_SET_TSC_KHZ', khz);
  }

  /** Tells the guest's kvmclock that it was stopped. */
  kvmclockCtrl(): void {
    ioctlWith(this.fd, 'KVM_KVMCLOCK_CTRL', 0);
  }

  /** Once; other handles of the descriptor are closed with it. */
  close(): void {
    close(this.fd);
  }
}

function msrOffset(i: number): number {
  return kvmMsrs.size + i * kvmMsrEntry.size;
}

function putMsr(view: DataView, i: number, index: number, value: bigint): void {
  view.setUint32(msrOffset(i) + kvmMsrEntry.offsets.index, index, true);
  view.setBigUint64(msrOffset(i) + kvmMsrEntry.offsets.data, value, true);
}

function msrError(name: 'KVM_GET_MSRS' | 'KVM_SET_MSRS', index: number): KvmError {
  return new KvmError(name, constants.errno.EINVAL, `MSR ${hex(index)}`);
}
