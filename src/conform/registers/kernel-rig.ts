/** The judge whose APICs are KVM's own, in the kernel: the oracle. */
import { kvmParameter, MpState, Vm } from '../../kvm/index.ts';
import { kernelRouter } from '../../machine/board/interrupt-router.ts';
import { type Cpu, type CpuParts, kernelCpu } from '../../machine/loop/cpu.ts';
import { renewPpr } from '../page.ts';
import type { RigSpec } from '../spec.ts';
import { VcpuDoor } from '../vcpu-door.ts';
import { GuestRig, type RigCpu } from './rig.ts';

export class KernelRig extends GuestRig {
  readonly name = 'kernel';
  readonly #pprIsOld = kvmParameter('flexpriority', 'kvm_intel') === 'Y';
  protected readonly devices = this.makeDevices(kernelRouter(Vm.fromFd(this.vm.fd, this.vm.runSize)));

  /** @throws KvmError when the host has no KVM that can be used */
  static async create(spec: RigSpec): Promise<KernelRig> {
    const rig = new KernelRig(spec, 'kernel');
    await rig.boot();
    return rig;
  }

  /**
   * Intel's CPUs let a guest write TPR without an exit (TPR shadow; vmx_update_msr_bitmap_x2apic), and PPR in KVM_GET_LAPIC is then
   * as old as KVM's last look for an interrupt. A guest that reads PPR gets the new one, and that is compared.
   */
  protected override look(page: Uint8Array): void {
    if (this.#pprIsOld) renewPpr(page);
  }

  protected makeCpu(parts: CpuParts): Pick<RigCpu, 'cpu' | 'door'> {
    return { cpu: kernelCpu(parts), door: new VcpuDoor(parts.vcpu) };
  }

  protected wakeUp({ vcpu }: Cpu): void {
    vcpu.getMpState(); // takes INIT and SIPI
    vcpu.setMpState(MpState.RUNNABLE);
  }

  protected calm({ vcpu }: Cpu): void {
    vcpu.getMpState(); // takes INIT and SIPI
  }

  protected settle({ vcpu }: Cpu): boolean {
    return vcpu.getMpState() === MpState.RUNNABLE;
  }

  protected hasEvents(): boolean {
    return true; // KVM shows it in no cheaper way than by taking them
  }

  protected takeWake(): boolean {
    return true;
  }

  protected waitsForSipi({ vcpu }: Cpu): boolean {
    return vcpu.getMpState() === MpState.INIT_RECEIVED;
  }
}
