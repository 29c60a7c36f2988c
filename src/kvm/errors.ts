/**
 * The host said no: every failed system call on KVM's descriptors becomes a KvmError that names the ioctl, the errno and,
 * where one is known, what to do about it. A guest's oddities and our own mistakes are never KvmErrors.
 */
import { constants } from 'node:os';

const errnoNames = new Map<number, string>(Object.entries(constants.errno).map(([name, value]) => [value, name]));

/** 'EINVAL' for 22; an unknown number as `errno 22`. */
export function errnoName(errno: number): string {
  return errnoNames.get(errno) ?? `errno ${errno}`;
}

const ULIMIT = 'each vCPU needs a descriptor: raise the limit with `ulimit -n` (hard limit: /etc/security/limits.conf)';

/** What to do about a refusal. Keyed `<operation>:<errno name>`, then `<errno name>`. src/TROUBLESHOOTING.md has them all. */
export const REMEDIES: Readonly<Record<string, string>> = {
  'open:EBUSY': 'another hypervisor holds the virtualization extensions: stop it (VirtualBox, VMware)',
  'KVM_CREATE_VM:EBUSY': 'another hypervisor holds the virtualization extensions: stop it (VirtualBox, VMware)',
  'KVM_CREATE_VM:ENODEV': 'KVM is loaded and its hardware cannot be used: is VT-x or AMD-V on in the firmware?',
  'KVM_CREATE_VM:ENOMEM': 'the host is out of memory for another VM',
  'KVM_CREATE_VCPU:EEXIST': 'a vCPU with this APIC ID exists',
  'KVM_CREATE_VCPU:EINVAL': 'the APIC ID is over KVM_CAP_MAX_VCPU_ID, or KVM_CAP_MAX_VCPUS vCPUs exist',
  'KVM_SET_USER_MEMORY_REGION:EEXIST': 'it overlaps another memory slot',
  'KVM_SET_USER_MEMORY_REGION:EINVAL': 'address, size and host address must be multiples of 4096',
  'KVM_SET_CPUID2:EINVAL': 'CPUID cannot change after the vCPU has run, and must be one KVM supports',
  'KVM_GET_LAPIC:EINVAL': 'there is no in-kernel APIC: enable KVM_CAP_SPLIT_IRQCHIP before the first vCPU',
  'KVM_SET_LAPIC:EINVAL': 'there is no in-kernel APIC, or the APIC ID in the page is not the vCPU ID',
  'KVM_INTERRUPT:EEXIST': 'an interrupt is already waiting to be injected',
  'KVM_INTERRUPT:ENXIO': 'the APIC is in the kernel',
  'KVM_ENABLE_CAP:EEXIST': 'it must be enabled before the first vCPU exists',
  'seccomp:EINVAL': 'this kernel has no seccomp filters (CONFIG_SECCOMP_FILTER): run without the sandbox',
  'seccomp:ENOSYS': 'this kernel has no seccomp: run without the sandbox',
  EMFILE: ULIMIT,
  ENFILE: 'the system is out of descriptors: raise fs.file-max',
  E2BIG: 'the list is longer than the buffer given',
  ENOSPC: 'the host is out of room for this (memory slots, or cgroup limits)',
  EINTR: 'a signal ended the call: try again',
};

/**
 * The host said no to a system call on KVM's descriptors: names the ioctl, the errno and, where one is known, what to
 * do.
 */
export class KvmError extends Error {
  override readonly name = 'KvmError';
  /** The ioctl's name in <linux/kvm.h>, or 'open', 'mmap'. */
  readonly ioctl: string;
  /** Positive. */
  readonly errno: number;
  /** 'EINVAL' */
  readonly code: string;
  /** What the user can do, or '' */
  readonly remedy: string;

  /**
   * @param detail what the call was about, such as a path or an APIC ID
   * @param advice what to do, when the caller knows better than the table
   */
  constructor(ioctl: string, errno: number, detail = '', advice = '') {
    const code = errnoName(errno);
    const remedy = advice || (REMEDIES[`${ioctl}:${code}`] ?? REMEDIES[code] ?? '');
    super(`${ioctl}${detail && ` ${detail}`}: ${code}${remedy && ` (${remedy})`}`);
    this.ioctl = ioctl;
    this.errno = errno;
    this.code = code;
    this.remedy = remedy;
  }
}

/** The addon (native/) is not for this machine, not there, or does not load: one line that says what to do. */
export class AddonError extends Error {
  override readonly name = 'AddonError';
}
