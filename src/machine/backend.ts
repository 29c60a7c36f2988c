/**
 * What a machine stands on: KVM (virtual-machine.ts), or in its place guests that are scripts (scripted-machine.ts), so that
 * everything above the vCPUs can be tested on a host without KVM: threads, messages, the command.
 */
import type { apicCpuid } from './cpuid/cpuid.ts';
import type { VcpuDescriptor } from './loop/vcpu-backend.ts';
import type { HostLimits, MachineConfig } from './options.ts';
import type { GuestMemory } from './shared/guest-memory.ts';

/** A vCPU as main has it. */
export interface VcpuHandle extends VcpuDescriptor {
  readonly fd: number;
}

/** A machine's VM as main has it. Errors are KvmErrors. */
export interface VmBackend {
  readonly limits: Omit<HostLimits, 'cores'>;
  /** Bytes of a vCPU's kvm_run. */
  readonly runSize: number;
  /** KVM_GET_MSR_INDEX_LIST. */
  readonly savableMsrs: readonly number[];
  readonly fd: number;
  create(config: MachineConfig): void;
  /** Frequency of the guests' TSC. */
  tscKhz(): number;
  /** The guests' CPUID as far as their APICs follow it. */
  apicCpuid(): ReturnType<typeof apicCpuid>;
  /** Whether CPUID offers MSIs with 15-bit destinations. */
  readonly extendedDestinations: boolean;
  setMemory(memory: GuestMemory, slot?: number, gpa?: number): void;
  createVcpu(apicId: number): VcpuHandle;
  /** Twice is harmless. */
  close(): void;
}
