/** The judge whose APICs are KVM's own, in the kernel: the oracle. */
import { MpState, Vm } from '../../kvm/index.ts';
import { kernelRouter } from '../../machine/board/interrupt-router.ts';
import { type Cpu, type CpuParts, kernelCpu } from '../../machine/loop/cpu.ts';
import { completeExit } from '../../machine/loop/cpu-state.ts';
import type { DevicePort } from '../../machine/shared/mailbox.ts';
import type { StateDoor } from '../page.ts';
import type { RigSpec } from '../rigs.ts';
import { apicBaseOf, vcpuDoor } from '../vcpu-door.ts';
import { makePlatform } from './platform.ts';
import { GuestRig, type RigCpu } from './rig.ts';

export class KernelRig extends GuestRig {
  readonly name = 'kernel';
  protected readonly devices: DevicePort;

  static async create(spec: RigSpec): Promise<KernelRig> {
    const rig = new KernelRig(spec);
    await rig.boot();
    return rig;
  }

  private constructor(spec: RigSpec) {
    super(spec, 'kernel');
    this.devices = makePlatform(this.config, this.memory.bytes, kernelRouter(Vm.fromFd(this.vm.fd, this.vm.runSize)));
  }

  protected makeCpu(parts: CpuParts): Cpu {
    return kernelCpu(parts);
  }

  protected wakeUp({ cpu }: RigCpu): void {
    cpu.vcpu.getMpState(); // takes INIT and SIPI
    cpu.vcpu.setMpState(MpState.RUNNABLE);
  }

  protected calm({ cpu: { vcpu, run } }: RigCpu): void {
    completeExit(run);
    vcpu.getMpState(); // takes INIT and SIPI
  }

  protected door({ cpu }: RigCpu): StateDoor {
    return vcpuDoor(cpu.vcpu);
  }

  protected page({ cpu }: RigCpu): Uint8Array {
    return cpu.vcpu.getLapic();
  }

  protected base({ cpu }: RigCpu): bigint {
    return apicBaseOf(cpu.vcpu);
  }

  protected settle({ cpu }: RigCpu): boolean {
    return cpu.vcpu.getMpState() === MpState.RUNNABLE;
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
