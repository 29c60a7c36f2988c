/**
 * A vCPU as its home worker has it: the descriptor, the mapped `kvm_run`, and the side that decides whether it may run
 * and which interrupt it takes. Only the home worker touches it.
 */
import type { KvmRun, Vcpu } from '../../kvm/index.ts';
import type { RunState } from '../shared/shared.ts';

/** How interrupts reach a vCPU: through our local APIC (user-interrupts.ts) or through KVM's (kernel-interrupts.ts). */
export interface CpuInterrupts {
  /**
   * Takes what came in since the last run and sets up injection.
   * @param woken somebody may have sent something since the last call (`wakeVcpu`)
   * @returns whether the vCPU may enter the guest
   */
  prepare(woken: boolean): boolean;
  /** The vCPU has done nothing since the last `prepare` that could matter to the next one, or to its timer. */
  readonly settled: boolean;
  /** Reads back what the guest did to `kvm_run` fields (CR8). */
  afterRun(): void;
  /** Another event is queued for the next entry: KVM injects one at a time, so no interrupt beside it. */
  eventQueued(): void;
  /** The guest executed HLT. */
  halt(): void;
  /** @returns false for #GP; a value read is in `msrLow` and `msrHigh`. */
  readMsr(msr: number): boolean;
  writeMsr(msr: number, low: number, high: number): boolean;
  readonly msrLow: number;
  readonly msrHigh: number;
  /** @returns the offset of the guest-physical `address` in this vCPU's APIC page, below 0 if it is not in it. */
  mmioOffset(address: number): number;
  /** @param offset bytes into the APIC page; `size` 1 to 8 bytes: any access a guest can make. */
  readMmio(offset: number, size: number): number;
  /** Bytes 4-7 of the last `readMmio` of more than 4 bytes. */
  readonly mmioHigh: number;
  writeMmio(offset: number, size: number, value: number): void;
  /** When `expireTimer` wants to be called, in nanoseconds; Infinity for never. */
  timerDeadlineNanos(): number;
  expireTimer(nowNanos: number): void;
  /** While an interrupt waits for something that ends no KVM_RUN (TPR): look again after this many nanoseconds. */
  readonly recheckNanos: number;
  /** Hot-removal: silent from now on, reachable by nothing. */
  park(): void;
  /** Power-up state: a reset of the machine, or a CPU that comes back. The boot CPU runs, others wait for SIPI. */
  powerUp(): void;
  /** Switches from xAPIC to x2APIC mode before the guest starts, as firmware does. */
  startInX2apicMode(): void;
  readonly state: RunState;
}

export class Cpu {
  readonly vcpuIndex: number;
  readonly apicId: number;
  readonly vcpu: Vcpu;
  readonly run: KvmRun;
  readonly interrupts: CpuInterrupts;
  hasRun = false;

  constructor(vcpuIndex: number, apicId: number, vcpu: Vcpu, run: KvmRun, interrupts: CpuInterrupts) {
    this.vcpuIndex = vcpuIndex;
    this.apicId = apicId;
    this.vcpu = vcpu;
    this.run = run;
    this.interrupts = interrupts;
  }
}
