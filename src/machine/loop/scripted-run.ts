/**
 * KVM_RUN of a vCPU whose guest is a script (scripted-vcpu.ts): plays its steps, delivers what it was given as KVM would, and
 * throws where a run loop breaks the contract of src/kvm/run.ts.
 */
import { ExitReason, exitName } from '../../kvm/constants.ts';
import type { ScriptedHost } from './scripted-host.ts';
import type { ScriptedState } from './scripted-state.ts';
import type { ScriptedVcpu } from './scripted-vcpu.ts';
import type { VcpuRun } from './vcpu-backend.ts';

const EINTR = 4;
const NOTHING = new Uint8Array(0);

/** One return of KVM_RUN: the members of `kvm_run` that it sets (src/kvm/run.ts), and what the guest did before it. */
export interface ScriptedExit {
  readonly exitReason: number;
  /** RFLAGS.IF at the exit; default: as before, and clear once an interrupt was taken. */
  readonly ifFlag?: boolean;
  /** Default: IF is set and nothing is being injected. */
  readonly readyForInterruptInjection?: boolean;
  readonly cr8?: number;
  /** The guest ended its NMI handler before this exit. */
  readonly nmiEnded?: boolean;
  /** The instruction exits so many times more before it is completed (an access across a page). */
  readonly pieces?: number;
  readonly ioIsOut?: boolean;
  readonly ioSize?: number;
  readonly ioPort?: number;
  /** Items written, or answers as they come; one for each repetition. */
  readonly ioData?: number[];
  readonly mmioAddress?: number;
  readonly mmioIsWrite?: boolean;
  /** Bytes written, or room for the answer: 1 to 8. */
  readonly mmioData?: number[];
  readonly msrIndex?: number;
  readonly msrDataLow?: number;
  readonly msrDataHigh?: number;
  readonly eoiVector?: number;
  readonly systemEventType?: number;
  readonly internalSuberror?: number;
  readonly instruction?: Uint8Array;
}

/** The guest runs until a kick or the timer ends it; time jumps to the timer. */
export const SPIN = 'spin';

/** An exit, SPIN, a -errno of KVM_RUN, or a function that is called while the guest runs. */
export type ScriptedStep = ScriptedExit | typeof SPIN | number | ((vcpu: ScriptedVcpu) => ScriptedStep);

export class ScriptedRun implements VcpuRun {
  immediateExit = false;
  cr8 = 0;
  requestInterruptWindow = false;
  readyForInterruptInjection = false;
  ifFlag = false;
  pendingNmis = 0;
  nmisMasked = false;
  msrDataLow = 0;
  msrDataHigh = 0;
  msrError = false;
  readonly taken: string[] = [];
  /** Returns of KVM_RUN, those that only completed an exit included. */
  runs = 0;
  readonly #vcpu: ScriptedVcpu;
  readonly #state: ScriptedState;
  readonly #host: ScriptedHost;
  readonly #steps: Iterator<ScriptedStep>;
  #exit: ScriptedExit = { exitReason: ExitReason.INTR };
  #pieces = 0;
  #vector = -1;
  #sharesEvents = false;
  #unmapped = false;

  constructor(vcpu: ScriptedVcpu, state: ScriptedState, host: ScriptedHost, steps: Iterator<ScriptedStep>) {
    this.#vcpu = vcpu;
    this.#state = state;
    this.#host = host;
    this.#steps = steps;
  }

  run(): number {
    if (this.#unmapped) throw new Error('KVM_RUN on memory that was given back');
    this.runs++;
    const completing = this.immediateExit;
    this.immediateExit = false;
    this.#takeVector();
    this.#takeFault();
    if (this.#pieces > 0) {
      this.#pieces--;
      return this.#leave(0);
    }
    if (completing || this.#host.takeKick()) return this.#leave(-EINTR);
    this.#deliver();
    return this.#leave(this.#play());
  }

  #play(): number {
    for (;;) {
      const next = this.#steps.next();
      if (next.done === true) throw new Error('the script is over');
      let step = next.value;
      while (typeof step === 'function') step = step(this.#vcpu);
      if (step === SPIN) {
        if (this.requestInterruptWindow && this.#isReady()) {
          this.#exit = { exitReason: ExitReason.IRQ_WINDOW_OPEN };
          return 0;
        }
        this.#spin();
        return -EINTR;
      }
      if (typeof step === 'number') return step;
      this.#exit = step;
      this.#pieces = step.pieces ?? 0;
      this.ifFlag = step.ifFlag ?? this.ifFlag;
      this.cr8 = step.cr8 ?? this.cr8;
      this.msrDataLow = step.msrDataLow ?? 0;
      this.msrDataHigh = step.msrDataHigh ?? 0;
      if (step.nmiEnded === true) this.#state.events.nmi.masked = 0;
      return 0;
    }
  }

  #spin(): void {
    const host = this.#host;
    if (!host.kicked) {
      if (host.armed === Number.POSITIVE_INFINITY) throw new Error('the guest spins, and nothing is left to end it');
      host.advance(host.armed - host.now);
    }
    host.takeKick();
  }

  /** KVM_SYNC_X86_EVENTS: the vector that `injectInterrupt` left in kvm_run. */
  #takeVector(): void {
    if (this.#vector < 0) return;
    const { interrupt } = this.#state.events;
    interrupt.injected = 1;
    interrupt.nr = this.#vector;
    this.#vector = -1;
  }

  /** The exit before was an MSR access, and is completed now. */
  #takeFault(): void {
    const { exitReason } = this.#exit;
    if (this.msrError && (exitReason === ExitReason.X86_RDMSR || exitReason === ExitReason.X86_WRMSR)) {
      if (this.#state.events.interrupt.injected !== 0) throw new Error('an interrupt beside #GP is lost');
      this.taken.push('#GP');
    }
    this.msrError = false;
  }

  #deliver(): void {
    const { interrupt, nmi, exception } = this.#state.events;
    if (exception.injected !== 0) {
      this.taken.push(`#${exception.nr}`);
      exception.injected = 0;
    }
    if (interrupt.injected !== 0) {
      this.taken.push(`0x${interrupt.nr.toString(16)}`);
      interrupt.injected = 0;
      this.ifFlag = false;
    }
    if (nmi.pending !== 0 && nmi.masked === 0) {
      this.taken.push('NMI');
      nmi.pending--;
      nmi.masked = 1;
      this.ifFlag = false;
    }
  }

  #isReady(): boolean {
    return this.ifFlag && this.#state.events.interrupt.injected === 0;
  }

  #leave(result: number): number {
    const { nmi } = this.#state.events;
    this.readyForInterruptInjection = this.#exit.readyForInterruptInjection ?? this.#isReady();
    this.pendingNmis = this.#sharesEvents ? nmi.pending : 0;
    this.nmisMasked = this.#sharesEvents && (nmi.masked !== 0 || nmi.injected !== 0);
    return result;
  }

  unmap(): void {
    this.#unmapped = true;
  }

  shareEvents(share: boolean): void {
    this.#sharesEvents = share;
    if (share) return;
    this.pendingNmis = 0;
    this.nmisMasked = false;
  }

  injectInterrupt(vector: number): void {
    if (!this.readyForInterruptInjection) throw new Error(`vector ${vector} for a vCPU that is not ready`);
    if (this.#vector >= 0) throw new Error(`vector ${vector} over ${this.#vector}: one is injected at a time`);
    if (!this.#sharesEvents && this.#state.events.nmi.masked !== 0) {
      throw new Error(`vector ${vector} would clear the NMI mask: events are not shared`);
    }
    this.#vector = vector;
    this.#state.given.push(`interrupt 0x${vector.toString(16)}`);
  }

  get exitReason(): number {
    return this.#exit.exitReason;
  }

  get ioIsOut(): boolean {
    return this.#exit.ioIsOut ?? false;
  }
  get ioSize(): number {
    return this.#exit.ioSize ?? 1;
  }
  get ioPort(): number {
    return this.#exit.ioPort ?? 0;
  }
  get ioCount(): number {
    return this.#exit.ioData?.length ?? 0;
  }
  ioValue(index = 0): number {
    return this.#exit.ioData?.[index] ?? 0;
  }
  setIoValue(index: number, value: number): void {
    if (this.#exit.ioData) this.#exit.ioData[index] = value;
  }

  get mmioAddress(): number {
    return this.#exit.mmioAddress ?? 0;
  }
  get mmioLength(): number {
    return this.#exit.mmioData?.length ?? 0;
  }
  get mmioIsWrite(): boolean {
    return this.#exit.mmioIsWrite ?? false;
  }
  mmioValue(): number {
    let value = 0;
    for (let byte = 0; byte < Math.min(4, this.mmioLength); byte++) value |= this.mmioByte(byte) << (8 * byte);
    return value >>> 0;
  }
  setMmioValue(low: number, high = 0): void {
    for (let byte = 0; byte < this.mmioLength; byte++) {
      this.setMmioByte(byte, ((byte < 4 ? low : high) >>> (8 * (byte % 4))) & 0xff);
    }
  }
  mmioByte(index: number): number {
    return this.#exit.mmioData?.[index] ?? 0;
  }
  setMmioByte(index: number, value: number): void {
    if (this.#exit.mmioData) this.#exit.mmioData[index] = value;
  }

  get msrIndex(): number {
    return this.#exit.msrIndex ?? 0;
  }

  get eoiVector(): number {
    return this.#exit.eoiVector ?? 0;
  }
  get systemEventType(): number {
    return this.#exit.systemEventType ?? 0;
  }
  get internalSuberror(): number {
    return this.#exit.internalSuberror ?? 0;
  }
  internalInstructionBytes(): Uint8Array {
    return this.#exit.instruction ?? NOTHING;
  }

  describe(): string {
    return exitName(this.exitReason);
  }
}
