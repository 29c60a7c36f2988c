/**
 * What the machine needs of a vCPU, whatever runs its guest: two halves, as KVM has them. The names and what they mean are
 * those of src/kvm/vcpu.ts and src/kvm/run.ts, whose classes are the KVM backend as they are; scripted-vcpu.ts is another.
 */
import type { KvmRun, Vcpu } from '../../kvm/index.ts';

/** The descriptor: registers and events. An ioctl each, so not for the exit path, `nmi` and `interrupt` excepted. */
export type VcpuDescriptor = Pick<
  Vcpu,
  | 'getRegs'
  | 'setRegs'
  | 'getSregs'
  | 'setSregs'
  | 'getMsrs'
  | 'getMsrsBeforeRefusal'
  | 'setMsrs'
  | 'setMsrsBeforeRefusal'
  | 'getVcpuEvents'
  | 'setVcpuEvents'
  | 'getDebugregs'
  | 'setDebugregs'
  | 'getFpu'
  | 'setFpu'
  | 'getXcrs'
  | 'setXcrs'
  | 'exits'
  | 'nmi'
  // With an in-kernel APIC
  | 'interrupt'
  | 'getLapic'
  | 'setLapic'
  | 'getMpState'
  | 'setMpState'
>;

/** The mapped `kvm_run`: into the guest and back, and what it came back for. Of the thread that runs the vCPU. */
export type VcpuRun = Pick<
  KvmRun,
  | 'run'
  | 'unmap'
  // Put in
  | 'immediateExit'
  | 'cr8'
  | 'requestInterruptWindow'
  | 'injectInterrupt'
  | 'shareEvents'
  // Told at each return
  | 'exitReason'
  | 'readyForInterruptInjection'
  | 'ifFlag'
  | 'pendingNmis'
  | 'nmisMasked'
  // KVM_EXIT_IO
  | 'ioIsOut'
  | 'ioSize'
  | 'ioPort'
  | 'ioCount'
  | 'ioValue'
  | 'setIoValue'
  // KVM_EXIT_MMIO
  | 'mmioAddress'
  | 'mmioLength'
  | 'mmioIsWrite'
  | 'mmioValue'
  | 'setMmioValue'
  | 'mmioByte'
  | 'setMmioByte'
  // KVM_EXIT_X86_RDMSR, KVM_EXIT_X86_WRMSR
  | 'msrIndex'
  | 'msrDataLow'
  | 'msrDataHigh'
  | 'msrError'
  // The rest
  | 'eoiVector'
  | 'systemEventType'
  | 'internalSuberror'
  | 'internalInstructionBytes'
  | 'describe'
>;

export interface VcpuBackend {
  readonly vcpu: VcpuDescriptor;
  readonly run: VcpuRun;
}
