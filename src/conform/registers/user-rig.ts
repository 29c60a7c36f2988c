/** The judge that is under test: our APICs below a guest, by way of the same UserInterrupts that `apiary run` uses. */
import { APIC_EVENT, ApicSystem, type ApicSystemOptions } from '../../apic/index.ts';
import { native } from '../../kvm/index.ts';
import { userRouter } from '../../machine/board/interrupt-router.ts';
import type { Platform } from '../../machine/board/platform.ts';
import { type Cpu, type CpuParts, userCpu } from '../../machine/loop/cpu.ts';
import { IA32_TSC } from '../../machine/loop/cpu-state.ts';
import { RunState } from '../../machine/shared/shared.ts';
import type { RigSpec } from '../spec.ts';
import { GuestRig, type RigCpu } from './rig.ts';

/** Any page; it is never run. */
const SIPI_VECTOR = 8;

export class UserRig extends GuestRig {
  readonly name = 'our machine';
  readonly #system: ApicSystem;
  protected readonly devices: Platform;
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
    const { x2apicFormat, broadcastQuirkDisabled, rig } = spec;
    const sizes = { maxApics: rig.length, maxApicId: this.vm.limits.maxVcpuId - 1, tscKhz: this.vm.tscKhz() };
    this.#system = new ApicSystem(
      { ...options, x2apicFormat, broadcastQuirkDisabled, ...sizes },
      {
        nowNanos: native.nowNanos,
        guestTsc: (vcpuIndex) => this.#cpus[vcpuIndex].vcpu.getMsrs([IA32_TSC])[0].value,
        wake: (vcpuIndex) => {
          this.#woken[vcpuIndex] = true;
        },
        eoi: (_vcpuIndex, vector) => this.devices.endOfInterrupt(vector),
      },
    );
    this.devices = this.makeDevices(userRouter(this.#system));
  }

  protected makeCpu(parts: CpuParts): Pick<RigCpu, 'cpu' | 'door'> {
    const { apicId, bootstrap, vcpuIndex } = parts;
    const apic = this.#system.addApic(apicId, { bootstrap });
    const cpu = userCpu(parts, apic);
    this.#cpus[vcpuIndex] = cpu;
    return { cpu, door: apic };
  }

  protected wakeUp({ interrupts, vcpuIndex }: Cpu): void {
    if (interrupts.state !== RunState.waitForSipi) return;
    this.#system.apic(vcpuIndex).postEvents(APIC_EVENT.INIT | APIC_EVENT.SIPI, SIPI_VECTOR);
    interrupts.prepare(true);
  }

  protected calm({ vcpuIndex }: Cpu): void {
    this.#woken[vcpuIndex] = true;
    const apic = this.#system.apic(vcpuIndex);
    apic.takeNmis();
    apic.takeSmis();
    apic.takeEvents();
  }

  protected settle({ interrupts }: Cpu): boolean {
    return interrupts.prepare(true);
  }

  protected takeWake({ vcpuIndex }: Cpu): boolean {
    const woken = this.#woken[vcpuIndex] ?? false;
    this.#woken[vcpuIndex] = false;
    return woken;
  }

  protected hasEvents({ vcpuIndex }: Cpu): boolean {
    return this.#system.apic(vcpuIndex).hasEvents();
  }

  protected waitsForSipi(): boolean {
    return false;
  }
}
