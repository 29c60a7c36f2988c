/**
 * A vCPU on KVM's in-kernel local APIC (split irqchip, `--apic kernel`): KVM handles the APIC page, its MSRs, HLT, INIT and
 * SIPI, and blocks inside KVM_RUN while the vCPU waits. Left to us are the PICs (ExtINT), removal, and power-up.
 */
import { MpState } from '../../kvm/constants.ts';
import { MachineWord, RunState } from '../shared/shared.ts';
import type { CpuParts, LifeCycle, LoopState, Readiness } from './cpu.ts';
import { applyPowerUp, completeExit } from './cpu-state.ts';

const IA32_APIC_BASE = 0x1b;
const APIC_BASE_X2APIC = 0x400n;
/** Power-up value of IA32_APIC_BASE of a CPU that is not the boot CPU (SDM vol. 3A 10.4.4). */
const APIC_BASE_ENABLED = 0xfee0_0800n;
const APIC_BASE_BSP = 0x100n;
const APIC_BASE_DISABLED = 0xfee0_0000n;

export class KernelInterrupts implements Readiness, LifeCycle {
  readonly recheckNanos = Number.POSITIVE_INFINITY;
  readonly settled = true;
  readonly #vcpu: CpuParts['vcpu'];
  readonly #run: CpuParts['run'];
  readonly #shared: CpuParts['shared'];
  readonly #devices: CpuParts['devices'];
  readonly #reset: CpuParts['reset'];
  readonly #resetLapic: Uint8Array;
  readonly #vcpuIndex: number;
  readonly #bootstrap: boolean;
  #state: RunState = RunState.running;
  #canInject = false;

  constructor({ vcpu, run, vcpuIndex, shared, devices, reset, bootstrap }: CpuParts) {
    this.#vcpu = vcpu;
    this.#run = run;
    this.#shared = shared;
    this.#devices = devices;
    this.#reset = reset;
    this.#vcpuIndex = vcpuIndex;
    this.#bootstrap = bootstrap;
    this.#resetLapic = vcpu.getLapic();
    // KVM_CREATE_VCPU leaves a new vCPU out of KVM's APIC map until something rebuilds it, as this does.
    vcpu.setLapic(this.#resetLapic);
    this.#publish(RunState.running);
  }

  get state(): RunState {
    return this.#state;
  }

  prepare(): boolean {
    if (this.#state !== RunState.running) return false;
    const pic = Atomics.load(this.#shared.words, MachineWord.picInterrupt) !== 0;
    if (pic && this.#canInject) {
      this.#vcpu.interrupt(this.#devices.acknowledgePic());
      this.#canInject = false;
    }
    this.#run.requestInterruptWindow = Atomics.load(this.#shared.words, MachineWord.picInterrupt) !== 0;
    return true;
  }

  afterRun(): void {
    this.#canInject = this.#run.readyForInterruptInjection;
  }

  eventQueued(): void {
    this.#canInject = false;
  }

  /** Never called: KVM waits inside KVM_RUN. */
  halt(): void {}

  park(): void {
    completeExit(this.#run);
    this.#vcpu.setMsrs([{ index: IA32_APIC_BASE, value: APIC_BASE_DISABLED }]);
    this.#publish(RunState.parked);
  }

  powerUp(): void {
    completeExit(this.#run);
    this.#canInject = false;
    const apicBase = this.#bootstrap ? APIC_BASE_ENABLED | APIC_BASE_BSP : APIC_BASE_ENABLED;
    // By way of "disabled": x2APIC mode cannot become xAPIC mode in one step.
    for (const value of [APIC_BASE_DISABLED, apicBase]) this.#vcpu.setMsrs([{ index: IA32_APIC_BASE, value }]);
    this.#vcpu.setLapic(this.#resetLapic);
    applyPowerUp(this.#vcpu, this.#reset, apicBase);
    this.#vcpu.setMpState(this.#bootstrap ? MpState.RUNNABLE : MpState.UNINITIALIZED);
    this.#publish(RunState.running);
  }

  save(): LoopState {
    return { state: this.#state, unhalted: false };
  }

  restore({ state }: LoopState): void {
    this.#canInject = false;
    this.#publish(state);
  }

  startInX2apicMode(): void {
    const value = this.#vcpu.getSregs().apicBase | APIC_BASE_X2APIC;
    this.#vcpu.setMsrs([{ index: IA32_APIC_BASE, value }]);
  }

  #publish(state: RunState): void {
    this.#state = state;
    this.#shared.setRunState(this.#vcpuIndex, state);
  }
}
