/**
 * A vCPU on our local APIC. KVM knows nothing of APICs here: INIT and SIPI are register writes, HLT is a state of ours,
 * one interrupt at a time goes in through kvm_run when the guest can take it, NMIs by KVM_NMI.
 *
 * Runs on the vCPU's home worker only. IRR moves to ISR at the moment of injection, as on hardware.
 */
import { APIC_EVENT, type LocalApic } from '../../apic/index.ts';
import { MachineWord, RUN_STATE_NAME, RunState } from '../shared/shared.ts';
import type { MachineTrace } from '../trace.ts';
import type { ApicWatcher } from './apic-doors.ts';
import type { CpuParts, LifeCycle, LoopState, Readiness } from './cpu.ts';
import { applyInit, applyPowerUp, applySipi, completeExit } from './cpu-state.ts';
import { MSR_KVM_PV_EOI_EN, type PvEoi } from './pv-eoi.ts';

/** Not every host reports KVM_EXIT_SET_TPR: how long an interrupt may wait unseen for TPR to fall. */
const TPR_RECHECK_NANOS = 250_000;
/** One in service, one pending: a CPU keeps no more (SDM vol. 3A 7.7.1). */
const MAX_NMIS = 2;
const IA32_APIC_BASE = 0x1b;
const APIC_BASE_X2APIC = 1 << 10;

export class UserInterrupts implements Readiness, LifeCycle, ApicWatcher {
  recheckNanos = Number.POSITIVE_INFINITY;
  settled = false;
  readonly #vcpu: CpuParts['vcpu'];
  readonly #run: CpuParts['run'];
  readonly #apic: LocalApic;
  readonly #shared: CpuParts['shared'];
  readonly #devices: CpuParts['devices'];
  readonly #reset: CpuParts['reset'];
  readonly #bootstrap: boolean;
  readonly #trace: MachineTrace | null;
  readonly #pvEoi: PvEoi | null;
  #state: RunState;
  /** KVM_RUN said that it can take an interrupt, and nothing was given to it since. */
  #canInject = false;
  /** From an NMI to the end of its handler, as far as seen: KVM tells at each return how far it is. */
  #nmiUnderWay = false;
  /** A message of delivery mode 3 came: it ends this HLT or the next (pv_unhalted in KVM). */
  #unhalted = false;

  constructor(
    { vcpu, run, shared, devices, reset, bootstrap, trace = null }: CpuParts,
    apic: LocalApic,
    pvEoi: PvEoi | null,
  ) {
    this.#vcpu = vcpu;
    this.#run = run;
    this.#apic = apic;
    this.#shared = shared;
    this.#devices = devices;
    this.#reset = reset;
    this.#bootstrap = bootstrap;
    this.#trace = trace;
    this.#pvEoi = pvEoi;
    this.#state = RunState.waitForSipi;
    this.#publish(bootstrap ? RunState.running : RunState.waitForSipi);
    this.apicBaseWritten();
  }

  get state(): RunState {
    return this.#state;
  }

  prepare(woken: boolean): boolean {
    if (!this.#prepare(woken)) return false;
    this.#pvEoi?.beforeEntry();
    return true;
  }

  #prepare(woken: boolean): boolean {
    // The PICs wake only those whose LINT0 took their interrupt when it came: looked at here for who unmasks it just then.
    if (this.settled && !woken && this.#shared.words[MachineWord.picInterrupt] === 0) return true;
    if (this.#state === RunState.parked) return false;
    const apic = this.#apic;
    if (apic.hasEvents()) this.#takeEvents();
    if (this.#state === RunState.waitForSipi) return false;
    const run = this.#run;
    let pending = this.#isInterruptPending();
    if (isHalted(this.#state)) {
      if (!this.#endsHalt(pending)) return false;
      this.#unhalted = false;
      this.#publish(RunState.running);
    }
    if (pending && this.#canInject && !apic.hasNmi() && !this.#nmiWaits()) {
      this.#inject();
      pending = this.#isInterruptPending();
    }
    // Taken after the interrupt is chosen, so that an NMI sent before that interrupt is not left for later.
    for (let nmis = Math.min(apic.takeNmis(), MAX_NMIS); nmis > 0; nmis--) {
      this.#vcpu.nmi();
      this.#trace?.event({ kind: 'nmi', vcpuIndex: apic.vcpuIndex });
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
    if (this.#pvEoi?.afterRun() === true) this.settled = false;
    if (this.#nmiUnderWay && run.pendingNmis === 0 && !run.nmisMasked) {
      this.#nmiUnderWay = false;
      run.shareEvents(false);
    }
    // A MOV to CR8 of the value that is there cannot be seen here, though it clears TPR bits 3:0.
    if (run.cr8 === this.#apic.cr8) return;
    this.settled = false;
    this.#apic.setCr8(run.cr8);
  }

  eventQueued(): void {
    this.#canInject = false;
  }

  halt(): void {
    this.#publish(this.#run.ifFlag ? RunState.halted : RunState.haltedWithoutIf);
  }

  unsettle(): void {
    this.settled = false;
  }

  /** KVM derives CPUID's APIC bit from sregs.apic_base, so it must follow ours. */
  apicBaseWritten(): void {
    const sregs = this.#vcpu.getSregs();
    const apicBase = this.#apic.apicBase();
    if (sregs.apicBase !== apicBase) this.#vcpu.setSregs({ ...sregs, apicBase });
  }

  park(): void {
    completeExit(this.#run);
    this.#apic.reset(false);
    this.#apic.setApicBaseFromHost(0, 0);
    this.#publish(RunState.parked);
  }

  powerUp(): void {
    completeExit(this.#run);
    this.#forgetEvents();
    this.#apic.reset(false);
    this.#apic.takeEvents();
    applyPowerUp(this.#vcpu, this.#reset, this.#apic.apicBase());
    this.#publish(this.#bootstrap ? RunState.running : RunState.waitForSipi);
  }

  save(): LoopState {
    const pvEoi = this.#pvEoi === null ? {} : { pvEoi: { low: this.#pvEoi.msrLow, high: this.#pvEoi.msrHigh } };
    return { state: this.#state, unhalted: this.#unhalted, ...pvEoi };
  }

  restore({ state, unhalted, pvEoi }: LoopState): void {
    const { pending, injected, masked } = this.#vcpu.getVcpuEvents().nmi;
    this.#nmiUnderWay = (pending | injected | masked) !== 0;
    this.#run.shareEvents(this.#nmiUnderWay);
    this.#canInject = false;
    this.#unhalted = unhalted;
    this.#pvEoi?.writeMsr(MSR_KVM_PV_EOI_EN, pvEoi?.low ?? 0, pvEoi?.high ?? 0);
    this.#publish(state);
    this.apicBaseWritten();
  }

  startInX2apicMode(): void {
    this.#apic.writeMsr(IA32_APIC_BASE, this.#apic.apicBaseLow | APIC_BASE_X2APIC, this.#apic.apicBaseHigh);
    this.apicBaseWritten();
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
    const from = this.#takesPic() ? 'pic' : 'apic';
    const vector = from === 'pic' ? this.#devices.acknowledgePic() : this.#apic.acknowledge();
    if (vector < 0) return;
    this.#run.injectInterrupt(vector);
    this.#trace?.event({ kind: 'inject', vcpuIndex: this.#apic.vcpuIndex, vector, from });
    this.#canInject = false; // until KVM_RUN says that it can take the next: one vector at a time
  }

  #takeEvents(): void {
    const events = this.#apic.acceptEvents(this.#state === RunState.waitForSipi);
    // A SIPI that nobody waits for ends a HLT, too (kvm_apic_has_pending_init_or_sipi); it is not kept for the next one.
    if (events & APIC_EVENT.UNHALT || isHalted(this.#state)) this.#unhalted = true;
    if (events & APIC_EVENT.INIT) {
      completeExit(this.#run);
      this.#forgetEvents();
      applyInit(this.#vcpu, this.#reset, this.#apic.apicBase());
      // As in KVM by the flag in IA32_APIC_BASE, which the guest may write.
      this.#publish(this.#apic.isBootProcessor ? RunState.running : RunState.waitForSipi);
    }
    if (events & APIC_EVENT.SIPI && this.#state === RunState.waitForSipi) {
      applySipi(this.#vcpu, this.#apic.sipiVector);
      this.#unhalted = false;
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

  /**
   * Whether a halted vCPU goes on (kvm_vcpu_has_events): an interrupt that RFLAGS.IF lets in, an NMI that is new, one that KVM
   * holds from before the HLT and nothing masks, or a message of mode 3. A new NMI counts even while one is handled, as in KVM.
   */
  #endsHalt(pending: boolean): boolean {
    return (pending && this.#run.ifFlag) || this.#apic.hasNmi() || this.#nmiWaits() || this.#unhalted;
  }

  /** What INIT and power-up discard beside the registers (kvm_vcpu_reset). The APIC's reset drops NMIs that are on their way. */
  #forgetEvents(): void {
    this.#canInject = false;
    this.#nmiUnderWay = false;
    this.#unhalted = false;
    this.#pvEoi?.reset();
    this.#run.shareEvents(false);
  }

  #publish(state: RunState): void {
    this.settled = false;
    this.#state = state;
    this.#shared.setRunState(this.#apic.vcpuIndex, state);
    this.#trace?.event({ kind: 'state', vcpuIndex: this.#apic.vcpuIndex, state: RUN_STATE_NAME[state] });
  }
}

const isHalted = (state: RunState): boolean => state === RunState.halted || state === RunState.haltedWithoutIf;
