/**
 * A vCPU on our local APIC. KVM knows nothing of APICs here: INIT and SIPI are register writes, HLT is a state of ours,
 * one interrupt at a time goes in through kvm_run when the guest can take it, NMIs by KVM_NMI.
 *
 * Runs on the vCPU's home worker only. IRR moves to ISR at the moment of injection, as on hardware.
 */
import { ApicEvent, type LocalApic } from '../../apic/index.ts';
import type { KvmRun, Vcpu } from '../../kvm/index.ts';
import type { DevicePort } from '../shared/mailbox.ts';
import { MachineWord, RunState, type SharedState } from '../shared/shared.ts';
import type { CpuInterrupts } from './cpu.ts';
import { applyInit, applyPowerUp, applySipi, completeExit, type ResetState } from './cpu-state.ts';

/** Not every host reports KVM_EXIT_SET_TPR: how long an interrupt may wait unseen for TPR to fall. */
const TPR_RECHECK_NANOS = 250_000;
const APIC_PAGE = 0x1000;
const NOT_OURS = -1;
/** One in service, one pending: a CPU keeps no more (SDM vol. 3A 6.7.1). */
const MAX_NMIS = 2;
const IA32_APIC_BASE = 0x1b;
const APIC_BASE_X2APIC = 1 << 10;

export class UserInterrupts implements CpuInterrupts {
  recheckNanos = Number.POSITIVE_INFINITY;
  settled = false;
  readonly #vcpu: Vcpu;
  readonly #run: KvmRun;
  readonly #apic: LocalApic;
  readonly #shared: SharedState;
  readonly #reset: ResetState;
  readonly #bootstrap: boolean;
  readonly #devices: DevicePort;
  #state: RunState;
  #canInject = false;
  /** From an NMI to the end of its handler, as far as seen: KVM tells at each return how far it is. */
  #nmiUnderWay = false;

  constructor(
    vcpu: Vcpu,
    run: KvmRun,
    apic: LocalApic,
    shared: SharedState,
    devices: DevicePort,
    reset: ResetState,
    bootstrap: boolean,
  ) {
    this.#vcpu = vcpu;
    this.#run = run;
    this.#apic = apic;
    this.#shared = shared;
    this.#reset = reset;
    this.#bootstrap = bootstrap;
    this.#devices = devices;
    this.#state = RunState.waitForSipi;
    this.#publish(bootstrap ? RunState.running : RunState.waitForSipi);
    this.#mirrorApicBase();
  }

  get state(): RunState {
    return this.#state;
  }

  get msrLow(): number {
    return this.#apic.msrLow;
  }

  get msrHigh(): number {
    return this.#apic.msrHigh;
  }

  prepare(woken: boolean): boolean {
    // The PICs wake only those whose LINT0 took their interrupt when it came: looked at here for who unmasks it just then.
    if (this.settled && !woken && this.#shared.words[MachineWord.picInterrupt] === 0) return true;
    if (this.#state === RunState.parked) return false;
    const apic = this.#apic;
    if (apic.hasEvents()) this.#takeEvents();
    if (this.#state === RunState.waitForSipi) return false;
    const run = this.#run;
    let pending = this.#isInterruptPending();
    if (this.#state === RunState.halted) {
      if (!(pending && run.ifFlag) && !apic.hasNmi()) return false;
      this.#publish(RunState.running);
    }
    if (pending && this.#canInject && !apic.hasNmi() && !this.#nmiWaits()) {
      this.#inject();
      pending = this.#isInterruptPending();
    }
    // Taken after the interrupt is chosen, so that an NMI sent before that interrupt is not left for later.
    for (let nmis = Math.min(apic.takeNmis(), MAX_NMIS); nmis > 0; nmis--) {
      this.#vcpu.nmi();
      this.#nmiUnderWay = true;
      run.shareEvents(true);
      this.#canInject = false; // what KVM_RUN said of interrupts and NMIs is out of date
    }
    run.requestInterruptWindow = pending;
    run.cr8 = apic.cr8;
    const blocked = !pending && apic.isBlockedByTpr();
    this.recheckNanos = blocked ? TPR_RECHECK_NANOS : Number.POSITIVE_INFINITY;
    this.settled = !pending && !blocked;
    return true;
  }

  afterRun(): void {
    const run = this.#run;
    this.#canInject = run.readyForInterruptInjection;
    if (this.#nmiUnderWay && run.pendingNmis === 0 && !run.nmisMasked) {
      this.#nmiUnderWay = false;
      run.shareEvents(false);
    }
    if (run.cr8 === this.#apic.cr8) return;
    this.settled = false;
    this.#apic.setCr8(run.cr8);
  }

  eventQueued(): void {
    this.#canInject = false;
  }

  halt(): void {
    this.#publish(RunState.halted);
  }

  readMsr(msr: number): boolean {
    return this.#apic.readMsr(msr) || this.#fault();
  }

  writeMsr(msr: number, low: number, high: number): boolean {
    this.settled = false;
    if (!this.#apic.writeMsr(msr, low, high)) return this.#fault();
    if (msr === IA32_APIC_BASE) this.#mirrorApicBase();
    return true;
  }

  mmioOffset(address: number): number {
    const offset = address - this.#apic.pageAddress;
    return offset < APIC_PAGE ? offset : NOT_OURS;
  }

  readMmio(offset: number, size: number): number {
    return this.#apic.readMmio(offset, size);
  }

  get mmioHigh(): number {
    return this.#apic.mmioHigh;
  }

  writeMmio(offset: number, size: number, value: number): void {
    this.settled = false;
    this.#apic.writeMmio(offset, size, value);
  }

  timerDeadlineNanos(): number {
    return this.#apic.timerDeadlineNanos();
  }

  expireTimer(nowNanos: number): void {
    this.settled = false;
    this.#apic.expireTimer(nowNanos);
  }

  park(): void {
    completeExit(this.#run);
    this.#apic.reset(false);
    this.#apic.setApicBaseFromHost(0, 0);
    this.#publish(RunState.parked);
  }

  powerUp(): void {
    completeExit(this.#run);
    this.#canInject = false;
    this.#apic.reset(false);
    this.#apic.takeNmis();
    this.#apic.takeEvents();
    applyPowerUp(this.#vcpu, this.#reset, this.#apic.apicBase());
    this.#publish(this.#bootstrap ? RunState.running : RunState.waitForSipi);
  }

  startInX2apicMode(): void {
    this.writeMsr(IA32_APIC_BASE, this.#apic.apicBaseLow | APIC_BASE_X2APIC, this.#apic.apicBaseHigh);
  }

  /** The PICs' interrupt comes before the local APIC's own, if LINT0 takes it (kvm_cpu_has_extint). */
  #takesPic(): boolean {
    return Atomics.load(this.#shared.words, MachineWord.picInterrupt) !== 0 && this.#apic.acceptsPic();
  }

  #isInterruptPending(): boolean {
    return this.#takesPic() || this.#apic.pendingVector() >= 0;
  }

  /** The PIC may have withdrawn its interrupt since `#isInterruptPending`; then there may be none. */
  #inject(): void {
    const vector = this.#takesPic() ? this.#devices.acknowledgePic() : this.#apic.acknowledge();
    if (vector < 0) return;
    this.#run.injectInterrupt(vector);
    this.#canInject = false; // until KVM_RUN says that it can take the next: one vector at a time
  }

  #takeEvents(): void {
    const events = this.#apic.takeEvents(this.#state === RunState.waitForSipi);
    if (events & ApicEvent.init) {
      completeExit(this.#run);
      this.#canInject = false;
      this.#apic.reset(true);
      applyInit(this.#vcpu, this.#reset, this.#apic.apicBase());
      // As in KVM by the flag in IA32_APIC_BASE, which the guest may write.
      this.#publish(this.#apic.isBootProcessor ? RunState.running : RunState.waitForSipi);
    }
    if (events & ApicEvent.sipi && this.#state === RunState.waitForSipi) {
      applySipi(this.#vcpu, this.#apic.sipiVector);
      this.#publish(RunState.running);
    }
  }

  /**
   * Whether KVM has yet to deliver an NMI: it goes before any interrupt, as on hardware. Given both, KVM would deliver the
   * interrupt, and not every host the NMI right after. An NMI that waits for the end of another's handler lets interrupts
   * pass.
   */
  #nmiWaits(): boolean {
    return this.#nmiUnderWay && this.#run.pendingNmis !== 0 && !this.#run.nmisMasked;
  }

  /** #GP comes with the next entry, and KVM injects one thing at a time: an interrupt beside it would be lost. */
  #fault(): false {
    this.#canInject = false;
    return false;
  }

  /** KVM derives CPUID's APIC bit from sregs.apic_base, so it must follow ours. */
  #mirrorApicBase(): void {
    const sregs = this.#vcpu.getSregs();
    const apicBase = this.#apic.apicBase();
    if (sregs.apicBase !== apicBase) this.#vcpu.setSregs({ ...sregs, apicBase });
  }

  #publish(state: RunState): void {
    this.settled = false;
    this.#state = state;
    this.#shared.setRunState(this.#apic.vcpuIndex, state);
  }
}
