/**
 * The interrupts that an APIC makes itself, through its local vector table: timer, LINT pins, performance counter, thermal
 * sensor, error, CMCI (SDM vol. 3A, 12.5). Only the owner calls it.
 *
 * Rules: kvm_apic_local_deliver, kvm_inject_apic_timer_irqs, kvm_apic_accept_pic_intr in arch/x86/kvm/lapic.c.
 */
import type { ApicCore } from './core.ts';
import { commandMode, DELIVERY, isLvtMasked, lvtCommand } from './fields.ts';
import type { ApicPort } from './port.ts';
import { REG } from './registers.ts';

export class LocalSources {
  readonly #core: ApicCore;
  readonly #port: ApicPort;
  readonly #vcpuIndex: number;

  constructor(core: ApicCore, port: ApicPort, vcpuIndex: number) {
    this.#core = core;
    this.#port = port;
    this.#vcpuIndex = vcpuIndex;
  }

  /** An event of the LVT entry at this register offset. Returns 1 if it was delivered, else 0. */
  deliver(lvtOffset: number): number {
    const core = this.#core;
    const lvt = core.register(lvtOffset);
    if (!core.present || isLvtMasked(lvt)) return 0;
    const taken = this.#port.accept(this.#vcpuIndex, lvtCommand(lvt));
    // SDM vol. 3A, 12.5.1: the performance counter's entry masks itself. AMD's does not.
    if (taken === 1 && lvtOffset === REG.LVT_PERFORMANCE && core.memory.options.intelCompatible)
      core.maskLvt(lvtOffset);
    return taken;
  }

  /** A pending expiry becomes an interrupt if the APIC is enabled and the entry is not masked; until then it waits. */
  deliverTimer(): void {
    const core = this.#core;
    const open = core.present && core.softwareEnabled && !isLvtMasked(core.register(REG.LVT_TIMER));
    if (!open && core.rules.pendingTimerKept) return;
    this.deliver(REG.LVT_TIMER);
    core.timer.delivered();
  }

  acceptsPic(): boolean {
    const lint0 = this.#core.register(REG.LVT_LINT0);
    return !this.#core.present || (!isLvtMasked(lint0) && commandMode(lint0) === DELIVERY.EXTINT);
  }
}
