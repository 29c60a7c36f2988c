/**
 * A virtual machine's descriptor: KVM's VM ioctls. Any thread of the process may hold its own handle (`Vm.fromFd`) and
 * call it at any time; only one handle may be closed.
 */
import { hex } from '../hex.ts';
import { Cap, capName, IrqRoutingType, MsrExitReason, MsrFilterFlag } from './constants.ts';
import { KvmError } from './errors.ts';
import {
  kvmEnableCap,
  kvmIrqLevel,
  kvmIrqRouting,
  kvmIrqRoutingEntry,
  kvmMsi,
  kvmMsrFilter,
  kvmMsrFilterRange,
  kvmUserspaceMemoryRegion,
} from './layouts.ts';
import { close, ioctl, ioctlWith, ioctlWithPointers, scratch, tryIoctl } from './libc.ts';
import { Vcpu } from './vcpu.ts';

const IA32_APIC_BASE = 0x1b;
const IA32_TSC_DEADLINE = 0x6e0;
const MSR_KVM_PV_EOI_EN = 0x4b56_4d04;
const EPERM = 1;
const EINVAL = 22;
const MSI = kvmMsi.offsets;

const FILTER_RANGES = kvmMsrFilter.offsets.ranges;
const FILTER_RANGE_BYTES = kvmMsrFilterRange.size;
const BITMAP = kvmMsrFilterRange.offsets.bitmap;

/** What guests can reach, by the VM's descriptor and slot. */
const mapped = new Map<number, Map<number, Uint8Array<SharedArrayBuffer>>>();

/** A range of MSRs whose accesses exit to us with reason FILTER, apart from 0x800-0x8ff, which cannot be filtered. */
export interface MsrFilterRange {
  /** First MSR. */
  readonly base: number;
  /** How many, 1 to 12288 (KVM_MSR_FILTER_MAX_BITMAP_SIZE). */
  readonly count: number;
}

/** GSI `gsi` sends this MSI. */
export interface MsiRoute {
  readonly gsi: number;
  readonly addressLow: number;
  readonly addressHigh: number;
  readonly data: number;
}

/**
 * A virtual machine's descriptor: KVM's VM ioctls, by their names; every one throws KvmError when the host says no.
 * Any thread may hold a handle of its own and call it at any time.
 */
export class Vm {
  readonly fd: number;
  /** KVM_GET_VCPU_MMAP_SIZE, in bytes. */
  readonly vcpuMmapSize: number;

  constructor(fd: number, vcpuMmapSize: number) {
    this.fd = fd;
    this.vcpuMmapSize = vcpuMmapSize;
  }

  /** Another handle of the same descriptor, for another thread. */
  static fromFd(fd: number, vcpuMmapSize: number): Vm {
    return new Vm(fd, vcpuMmapSize);
  }

  /** As System.checkExtension, with the answer for this VM. */
  checkExtension(capability: Cap): number {
    return ioctlWith(this.fd, 'KVM_CHECK_EXTENSION', capability);
  }

  /** KVM_ENABLE_CAP; up to four arguments. */
  enableCap(capability: Cap, ...args: readonly (number | bigint)[]): void {
    kvmEnableCap.encode(scratch.view, 0, { cap: capability, args: args.map(BigInt) });
    ioctl(this.fd, 'KVM_ENABLE_CAP', scratch.bytes, capName(capability));
  }

  /** Three pages of guest-physical space that VMX needs for real mode; nothing else may be there. Below 4 GiB. */
  setTssAddr(gpa: number): void {
    ioctlWith(this.fd, 'KVM_SET_TSS_ADDR', gpa);
  }

  /** One more page that VMX needs for real mode without unrestricted guest. */
  setIdentityMapAddr(gpa: number): void {
    scratch.view.setBigUint64(0, BigInt(gpa), true);
    ioctl(this.fd, 'KVM_SET_IDENTITY_MAP_ADDR');
  }

  /**
   * Maps host memory into the guest, or with no bytes takes the slot away. Everything in multiples of 4096; memory that
   * begins on a page: see `bytesToPage`. KVM knows only the address, so the memory is kept alive until `close`.
   * @param flags KVM_MEM_*
   */
  setUserMemoryRegion(slot: number, gpa: number, memory: Uint8Array<SharedArrayBuffer>, flags = 0): void {
    kvmUserspaceMemoryRegion.encode(scratch.view, 0, {
      slot,
      flags,
      guestPhysAddr: BigInt(gpa),
      memorySize: BigInt(memory.length),
    });
    const pointer = { at: kvmUserspaceMemoryRegion.offsets.userspaceAddr, to: memory };
    ioctlWithPointers(this.fd, 'KVM_SET_USER_MEMORY_REGION', scratch.view, [pointer], `slot ${slot}`);
    const slots = mapped.get(this.fd) ?? new Map<number, Uint8Array<SharedArrayBuffer>>();
    mapped.set(this.fd, slots.set(slot, memory));
  }

  /** KVM_CREATE_VCPU. @param apicId KVM's vcpu_id, 0 to KVM_CAP_MAX_VCPU_ID - 1 */
  createVcpu(apicId: number): Vcpu {
    const fd = ioctlWith(this.fd, 'KVM_CREATE_VCPU', apicId, `with APIC ID ${hex(apicId)}`);
    return new Vcpu(fd, this.vcpuMmapSize);
  }

  /** Which vCPU starts as the boot CPU (APIC in the kernel only); before the first vCPU. */
  setBootCpuId(apicId: number): void {
    ioctlWith(this.fd, 'KVM_SET_BOOT_CPU_ID', apicId);
  }

  /**
   * Accesses to these MSRs exit with KVM_MSR_EXIT_REASON_FILTER (if KVM_CAP_X86_USER_SPACE_MSR asks for it, see
   * `trapApicMsrs`), all others go on as before. Replaces the filter that was set. At most 16 ranges.
   */
  setMsrFilter(ranges: readonly MsrFilterRange[]): void {
    const longest = Math.max(0, ...ranges.map(({ count }) => count));
    const bitmap = new Uint8Array(Math.ceil(longest / 8)); // all zero: none is allowed. One does for every range
    kvmMsrFilter.encode(scratch.view, 0, {
      flags: MsrFilterFlag.DEFAULT_ALLOW,
      ranges: ranges.map(({ base, count }) => ({
        flags: MsrFilterFlag.READ | MsrFilterFlag.WRITE,
        nmsrs: count,
        base,
        bitmap: 0n,
      })),
    });
    const pointers = ranges.map((_, index) => ({
      at: FILTER_RANGES + index * FILTER_RANGE_BYTES + BITMAP,
      to: bitmap,
    }));
    ioctlWithPointers(this.fd, 'KVM_X86_SET_MSR_FILTER', scratch.view, pointers, `of ${ranges.length} ranges`);
  }

  /**
   * For a userspace APIC: IA32_APIC_BASE, IA32_TSC_DEADLINE and MSR_KVM_PV_EOI_EN exit with reason FILTER, the x2APIC registers (0x800-0x8ff)
   * with reason INVAL, since no filter applies to them (kvm_msr_allowed) and KVM has no APIC to ask (kvm_x2apic_msr_read,
   * the same on VMX and SVM). INVAL also brings us every access to another MSR that KVM finds invalid: answer #GP.
   * UNKNOWN is not asked for: MSRs that KVM does not know get #GP without an exit.
   */
  trapApicMsrs(): void {
    this.enableCap(Cap.X86_USER_SPACE_MSR, MsrExitReason.INVAL | MsrExitReason.FILTER);
    this.setMsrFilter([
      { base: IA32_APIC_BASE, count: 1 },
      { base: IA32_TSC_DEADLINE, count: 1 },
      { base: MSR_KVM_PV_EOI_EN, count: 1 },
    ]);
  }

  /**
   * KVM_SIGNAL_MSI; needs an in-kernel APIC.
   * @returns how many vCPUs accepted it (a coalesced one counts); 0 when the target ignored it or the optimized map has none;
   *   -EPERM (-1) when KVM looked at all APICs and none matched (kvm_irq_delivery_to_apic); -EINVAL (-22) when the message
   *   is invalid or no APIC is in the kernel
   * @throws KvmError for any other errno
   */
  signalMsi(addressLow: number, addressHigh: number, data: number): number {
    scratch.bytes.fill(0, 0, kvmMsi.size);
    scratch.words[MSI.addressLo >> 2] = addressLow;
    scratch.words[MSI.addressHi >> 2] = addressHigh;
    scratch.words[MSI.data >> 2] = data;
    const result = tryIoctl(this.fd, 'KVM_SIGNAL_MSI');
    if (result < 0 && result !== -EPERM && result !== -EINVAL) throw new KvmError('KVM_SIGNAL_MSI', -result);
    return result;
  }

  /**
   * Replaces the whole routing table by MSI routes. With a split irqchip KVM takes from the routes of GSIs below
   * KVM_CAP_SPLIT_IRQCHIP's pin count which vectors exit with KVM_EXIT_IOAPIC_EOI.
   */
  setGsiRouting(routes: readonly MsiRoute[]): void {
    const view = new DataView(new ArrayBuffer(kvmIrqRouting.size + routes.length * kvmIrqRoutingEntry.size));
    kvmIrqRouting.encode(view, 0, { nr: routes.length });
    for (const [i, { gsi, addressLow, addressHigh, data }] of routes.entries()) {
      const entry = { gsi, type: IrqRoutingType.MSI, u: [addressLow, addressHigh, data] };
      kvmIrqRoutingEntry.encode(view, kvmIrqRouting.size + i * kvmIrqRoutingEntry.size, entry);
    }
    ioctl(this.fd, 'KVM_SET_GSI_ROUTING', view);
  }

  /** Drives a GSI of the routing table. */
  irqLine(gsi: number, level: boolean): void {
    kvmIrqLevel.encode(scratch.view, 0, { irq: gsi, level: level ? 1 : 0 });
    ioctl(this.fd, 'KVM_IRQ_LINE', scratch.bytes, `GSI ${gsi}`);
  }

  /** Default TSC frequency of the vCPUs to come (KVM_CAP_VM_TSC_CONTROL). */
  setTscKhz(khz: number): void {
    ioctlWith(this.fd, 'KVM_SET_TSC_KHZ', khz);
  }
  /** KVM_GET_TSC_KHZ, for vCPUs to come; with KVM_CAP_VM_TSC_CONTROL. */
  getTscKhz(): number {
    return ioctlWith(this.fd, 'KVM_GET_TSC_KHZ', 0);
  }

  /** Once; other handles of the descriptor are closed with it. */
  close(): void {
    mapped.delete(this.fd);
    close(this.fd);
  }
}
