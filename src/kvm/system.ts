/** /dev/kvm: KVM's system ioctls (Documentation/virt/kvm/api.rst, "System ioctls"). */
import { API_VERSION, Cap } from './constants.ts';
import { readCpuid } from './cpuid.ts';
import { KvmError } from './errors.ts';
import { type CpuidEntry, kvmMsrList } from './layouts.ts';
import { closeOpened, ioctl, ioctlWith, open, scratch, tryIoctl } from './libc.ts';
import { Vm } from './vm.ts';

/** /dev/kvm: KVM's system ioctls (Documentation/virt/kvm/api.rst). */
export class System {
  readonly fd: number;

  private constructor(fd: number) {
    this.fd = fd;
  }

  /** @throws KvmError ('open', with the remedy) */
  static open(path = '/dev/kvm'): System {
    return new System(open(path));
  }

  /** Another handle of the same descriptor, in any thread of this process. Only one of them may be closed. */
  static fromFd(fd: number): System {
    return new System(fd);
  }

  /** 12 on every kernel since 2.6.22. */
  apiVersion(): number {
    return ioctlWith(this.fd, 'KVM_GET_API_VERSION', 0);
  }

  /** 0 when the capability is missing, else its value. */
  checkExtension(capability: Cap): number {
    return ioctlWith(this.fd, 'KVM_CHECK_EXTENSION', capability);
  }

  /** How long each vCPU's kvm_run mapping is, in bytes. */
  getVcpuMmapSize(): number {
    return ioctlWith(this.fd, 'KVM_GET_VCPU_MMAP_SIZE', 0);
  }

  /** KVM_CREATE_VM. @throws KvmError */
  createVm(): Vm {
    return new Vm(ioctlWith(this.fd, 'KVM_CREATE_VM', 0), this.getVcpuMmapSize());
  }

  /** The TSC frequency that a new vCPU gets, in kHz. Before Linux 5.18 no VM knows it, so a vCPU of another VM is asked. */
  tscKhz(vm: Vm): number {
    if (this.checkExtension(Cap.VM_TSC_CONTROL) !== 0) return vm.getTscKhz();
    const other = this.createVm();
    try {
      const vcpu = other.createVcpu(0);
      try {
        return vcpu.getTscKhz();
      } finally {
        vcpu.close();
      }
    } finally {
      other.close();
    }
  }

  /** KVM_GET_SUPPORTED_CPUID: what a guest may be given on this host. */
  getSupportedCpuid(): CpuidEntry[] {
    return readCpuid(this.fd, 'KVM_GET_SUPPORTED_CPUID');
  }

  /** What KVM can emulate although the host's CPU has not got it. */
  getEmulatedCpuid(): CpuidEntry[] {
    return readCpuid(this.fd, 'KVM_GET_EMULATED_CPUID');
  }

  /** The MSRs that KVM_GET_MSRS and KVM_SET_MSRS take and that are worth saving. */
  getMsrIndexList(): number[] {
    scratch.words[0] = 0;
    const needed = tryIoctl(this.fd, 'KVM_GET_MSR_INDEX_LIST'); // E2BIG, with the count
    if (needed < 0 && needed !== -7) throw new KvmError('KVM_GET_MSR_INDEX_LIST', -needed);
    const list = new Uint32Array(new ArrayBuffer(kvmMsrList.size + (scratch.words[0] ?? 0) * 4));
    list[0] = list.length - 1;
    ioctl(this.fd, 'KVM_GET_MSR_INDEX_LIST', list);
    return Array.from(list.subarray(1, 1 + (list[0] ?? 0)));
  }

  /** Whether the API is the one these bindings speak. */
  isSupported(): boolean {
    return this.apiVersion() === API_VERSION;
  }

  /** Once; other handles of the descriptor are closed with it. */
  close(): void {
    closeOpened(this.fd);
  }
}
