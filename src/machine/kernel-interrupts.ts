/**
 * A vCPU on KVM's in-kernel local APIC (split irqchip, `--apic kernel`): KVM handles the APIC page, its MSRs, HLT, INIT and
 * SIPI, and blocks inside KVM_RUN while the vCPU waits. What is left for us is to park and unpark it.
 */
import { type KvmRun, MpState, type Vcpu } from '../kvm/index.ts';
import type { CpuInterrupts } from './cpu.ts';
import { applyReset, completeExit, type ResetState } from './cpu-state.ts';
import { RunState, type SharedState } from './shared.ts';

const IA32_APIC_BASE = 0x1b;
/** Power-up value of IA32_APIC_BASE of a CPU that is not the boot CPU (SDM vol. 3A 10.4.4). */
const APIC_BASE_ENABLED = 0xfee0_0800n;
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
  #state: RunState = RunState.running;

  constructor(vcpu: Vcpu, run: KvmRun, vcpuIndex: number, shared: SharedState, reset: ResetState) {
    this.#vcpu = vcpu;
    this.#vcpuIndex = vcpuIndex;
    this.#shared = shared;
    this.#reset = reset;
    this.#run = run;
    this.#resetLapic = vcpu.getLapic();
    this.#publish(RunState.running);
  }

  get state(): RunState {
    return this.#state;
  }

  prepare(): boolean {
    return this.#state === RunState.running;
  }

  afterRun(): void {}

  halt(): void {}

  readMsr(): boolean {
    return false;
  }

  writeMsr(): boolean {
    return false;
  }

  ownsMmio(): boolean {
    return false;
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

  unpark(): void {
    this.#vcpu.setMsrs([{ index: IA32_APIC_BASE, value: APIC_BASE_ENABLED }]);
    this.#vcpu.setLapic(this.#resetLapic);
    applyReset(this.#vcpu, this.#reset, APIC_BASE_ENABLED);
    this.#vcpu.setMpState(MpState.UNINITIALIZED);
    this.#publish(RunState.running);
  }

  #publish(state: RunState): void {
    this.#state = state;
    this.#shared.setRunState(this.#vcpuIndex, state);
  }
}
