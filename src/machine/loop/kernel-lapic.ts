/**
 * KVM's own local APIC made readable: its page and APIC base are loaded into an APIC of ours that nobody runs, whose
 * snapshot is then taken, so that both kinds of machine answer in the same words.
 */
import { ApicSystem, type LocalApicSnapshot } from '../../apic/index.ts';
import type { VcpuDescriptor } from './vcpu-backend.ts';

const IA32_APIC_BASE = 0x1b;

/** The vCPU as its machine knows it, and the gate of its VM, which decides how the page writes the ID. */
export interface KernelApicIdentity {
  readonly vcpuIndex: number;
  readonly apicId: number;
  readonly use32bitIds: boolean;
  /** Now, for the current count. */
  readonly nowNanos: number;
}

/** Two ioctls; the vCPU must not be inside KVM_RUN. @throws KvmError without an in-kernel APIC */
export function kernelLapicSnapshot(vcpu: VcpuDescriptor, identity: KernelApicIdentity): LocalApicSnapshot {
  const { vcpuIndex, apicId, use32bitIds, nowNanos } = identity;
  const page = vcpu.getLapic();
  const base = vcpu.getMsrs([IA32_APIC_BASE])[0].value;
  const system = new ApicSystem(
    { x2apicFormat: use32bitIds, maxApics: 1, maxApicId: apicId, shared: false },
    { nowNanos: () => nowNanos },
  );
  const apic = system.addApic(apicId);
  apic.setApicBaseFromHost(Number(base & 0xffff_ffffn), Number(base >> 32n));
  apic.setState(page);
  return { ...apic.snapshot(), vcpuIndex };
}
