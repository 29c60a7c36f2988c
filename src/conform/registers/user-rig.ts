/** The judge that is under test: our APICs below a guest, by way of the same UserInterrupts that `apiary run` uses. */
import { APIC_EVENT, ApicSystem, type ApicSystemOptions } from '../../apic/index.ts';
import { native } from '../../kvm/index.ts';
import { userRouter } from '../../machine/board/interrupt-router.ts';
import { type Cpu, type CpuParts, userCpu } from '../../machine/loop/cpu.ts';
import { completeExit } from '../../machine/loop/cpu-state.ts';
import type { DevicePort } from '../../machine/shared/mailbox.ts';
import { RunState } from '../../machine/shared/shared.ts';
import { ApicDoor, type StateDoor } from '../page.ts';
import type { RigSpec } from '../rigs.ts';
import { makePlatform } from './platform.ts';
import { GuestRig, type RigCpu } from './rig.ts';

const IA32_TSC = 0x10;
/** Any page; it is never run. */
const SIPI_VECTOR = 8;

export class UserRig extends GuestRig {
  readonly name = 'our machine';
  readonly system: ApicSystem;
  protected readonly devices: DevicePort;
  readonly #cpus: Cpu[] = [];
  readonly #woken: boolean[] = [];

  /** @param options the host's properties, the behaviour and the rules to break */
  static async create(spec: RigSpec, options: ApicSystemOptions): Promise<UserRig> {
    const rig = new UserRig(spec, options);
    await rig.boot();
    return rig;
  }

  private constructor(spec: RigSpec, options: ApicSystemOptions) {
    super(spec, 'user');
    this.system = new ApicSystem(
      {
        ...options,
        x2apicFormat: spec.x2apicFormat,
        broadcastQuirkDisabled: spec.broadcastQuirkDisabled,
        maxApics: spec.rig.length,
        maxApicId: this.vm.limits.maxVcpuId - 1,
        tscKhz: this.vm.tscKhz(),
      },
      {
        nowNanos: native.nowNanos,
        guestTsc: (vcpuIndex) => this.#cpus[vcpuIndex]?.vcpu.getMsrs([IA32_TSC])[0]?.value ?? 0n,
        wake: (vcpuIndex) => {
          this.#woken[vcpuIndex] = true;
        },
        eoi: (_vcpuIndex, vector) => this.devices.endOfInterrupt(vector),
      },
    );
    this.devices = makePlatform(this.config, this.memory.bytes, userRouter(this.system));
  }

  protected makeCpu(parts: CpuParts): Cpu {
    const { apicId, bootstrap, vcpuIndex } = parts;
    const cpu = userCpu(parts, this.system.addApic(apicId, { bootstrap }));
    this.#cpus[vcpuIndex] = cpu;
    return cpu;
  }

  protected wakeUp({ cpu }: RigCpu): void {
    if (cpu.interrupts.state !== RunState.waitForSipi) return;
    this.system.apic(cpu.vcpuIndex).postEvents(APIC_EVENT.INIT | APIC_EVENT.SIPI, SIPI_VECTOR);
    cpu.interrupts.prepare(true);
  }

  protected calm({ cpu }: RigCpu): void {
    this.#woken[cpu.vcpuIndex] = true;
    const apic = this.system.apic(cpu.vcpuIndex);
    completeExit(cpu.run);
    apic.takeNmis();
    apic.takeSmis();
    apic.takeEvents();
  }

  protected door({ cpu }: RigCpu): StateDoor {
    return new ApicDoor(this.system.apic(cpu.vcpuIndex));
  }

  protected page({ cpu }: RigCpu): Uint8Array {
    return this.system.apic(cpu.vcpuIndex).getState();
  }

  protected base({ cpu }: RigCpu): bigint {
    return this.system.apic(cpu.vcpuIndex).apicBase();
  }

  protected settle({ cpu }: RigCpu): boolean {
    return cpu.interrupts.prepare(true);
  }

  protected takeWake({ vcpuIndex }: Cpu): boolean {
    const woken = this.#woken[vcpuIndex] ?? false;
    this.#woken[vcpuIndex] = false;
    return woken;
  }

  protected hasEvents({ cpu }: RigCpu): boolean {
    return this.system.apic(cpu.vcpuIndex).hasEvents();
  }

  protected waitsForSipi(): boolean {
    return false;
  }
}
