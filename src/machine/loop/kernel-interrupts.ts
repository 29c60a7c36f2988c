/**
 * A vCPU on KVM's in-kernel local APIC (split irqchip, `--apic kernel`): KVM handles the APIC page, its MSRs, HLT, INIT and
 * SIPI, and blocks inside KVM_RUN while the vCPU waits. Left to us are the PICs (ExtINT), removal, and power-up.
 */
import { type KvmRun, MpState, type Vcpu } from '../../kvm/index.ts';
import type { DevicePort } from '../shared/mailbox.ts';
import { MachineWord, RunState, type SharedState } from '../shared/shared.ts';
import type { CpuInterrupts } from './cpu.ts';
import { applyPowerUp, completeExit, type ResetState } from './cpu-state.ts';

const IA32_APIC_BASE = 0x1b;
const APIC_BASE_X2APIC = 0x400n;
/** Power-up value of IA32_APIC_BASE of a CPU that is not the boot CPU (SDM vol. 3A 10.4.4). */
const APIC_BASE_ENABLED = 0xfee0_0800n;
const APIC_BASE_BSP = 0x100n;
const APIC_BASE_DISABLED = 0xfee0_0000n;

export class KernelInterrupts implements CpuInterrupts {
  readonly recheckNanos = Number.POSITIVE_INFINITY;
  readonly msrLow = 0;
  readonly msrHigh = 0;
  readonly #vcpu: Vcpu;
  readonly #shared: SharedState;
  readonly #vcpuIndex: number;
  readonly #reset: ResetState;
  readonly #resetLapic: Uint8Array;
  readonly #run: KvmRun;
  readonly #devices: DevicePort;
  readonly #bootstrap: boolean;
  readonly settled = true;
  #state: RunState = RunState.running;
  #canInject = false;

  constructor(
    vcpu: Vcpu,
    run: KvmRun,
    vcpuIndex: number,
    shared: SharedState,
    devices: DevicePort,
    reset: ResetState,
    bootstrap: boolean,
  ) {
    this.#vcpu = vcpu;
    this.#vcpuIndex = vcpuIndex;
    this.#shared = shared;
    this.#devices = devices;
    this.#bootstrap = bootstrap;
    this.#reset = reset;
    this.#run = run;
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

  halt(): void {}

  readMsr(): boolean {
    return false;
  }

  writeMsr(): boolean {
    return false;
  }

  mmioOffset(): number {
    return -1;
  }

  readMmio(): number {
    return 0;
  }

  readonly mmioHigh = 0;

  writeMmio(): void {}

  timerDeadlineNanos(): number {
    return Number.POSITIVE_INFINITY;
  }

  expireTimer(): void {}

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

  startInX2apicMode(): void {
    const value = this.#vcpu.getSregs().apicBase | APIC_BASE_X2APIC;
    this.#vcpu.setMsrs([{ index: IA32_APIC_BASE, value }]);
  }

  #publish(state: RunState): void {
    this.#state = state;
    this.#shared.setRunState(this.#vcpuIndex, state);
  }
}
