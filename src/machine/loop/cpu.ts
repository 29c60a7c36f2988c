/**
 * A vCPU as its home worker has it: what runs its guest, the doors of its local APIC, and the side that decides whether it
 * may run and which interrupt it takes. Only the home worker touches it.
 */
import type { LocalApic } from '../../apic/index.ts';
import type { DevicePort } from '../shared/mailbox.ts';
import type { RunState, SharedState } from '../shared/shared.ts';
import type { MachineTrace } from '../trace.ts';
import { ApicDoors } from './apic-doors.ts';
import type { ResetState } from './cpu-state.ts';
import { KernelInterrupts } from './kernel-interrupts.ts';
import { PvEoi } from './pv-eoi.ts';
import { UserInterrupts } from './user-interrupts.ts';
import type { VcpuBackend, VcpuDescriptor, VcpuRun } from './vcpu-backend.ts';

/** Whether a vCPU may run, and what it takes when it does: our local APIC (user-interrupts.ts) or KVM's (kernel-interrupts.ts). */
export interface Readiness {
  /**
   * Takes what came in since the last run and sets up injection.
   * @param woken somebody may have sent something since the last call (`wakeVcpu`)
   * @returns whether the vCPU may enter the guest
   */
  prepare(woken: boolean): boolean;
  /** The vCPU has done nothing since the last `prepare` that could matter to the next one, or to its timer. */
  readonly settled: boolean;
  /** Reads back what KVM_RUN tells at each return. */
  afterRun(): void;
  /** Another event is queued for the next entry: KVM injects one at a time, so no interrupt beside it. */
  eventQueued(): void;
  /** The guest executed HLT. */
  halt(): void;
  /** While an interrupt waits for something that ends no KVM_RUN (TPR): look again after this many nanoseconds. */
  readonly recheckNanos: number;
}

/** What a run loop keeps of a vCPU between two KVM_RUNs. */
export interface LoopState {
  readonly state: RunState;
  /** A message of delivery mode 3 waits for a HLT to end. */
  readonly unhalted: boolean;
  /** MSR_KVM_PV_EOI_EN, where it is ours. */
  readonly pvEoi?: { readonly low: number; readonly high: number };
}

/** What the machine, not the guest, does with a vCPU. */
export interface LifeCycle {
  readonly state: RunState;
  /** Hot-removal: silent from now on, reachable by nothing. */
  park(): void;
  /** Power-up state: a reset of the machine, or a CPU that comes back. The boot CPU runs, others wait for SIPI. */
  powerUp(): void;
  /** What the run loop knows that neither KVM nor the APIC does; and back, after these have theirs. */
  save(): LoopState;
  restore(state: LoopState): void;
  /** Switches from xAPIC to x2APIC mode before the guest starts, as firmware does. */
  startInX2apicMode(): void;
}

export interface Cpu {
  readonly vcpuIndex: number;
  readonly apicId: number;
  readonly vcpu: VcpuDescriptor;
  readonly run: VcpuRun;
  readonly interrupts: Readiness & LifeCycle;
  /** Null with KVM's own APIC, whose accesses and timer end no KVM_RUN. */
  readonly apic: ApicDoors | null;
  /** Null where nobody asked for a trace. */
  readonly trace: MachineTrace | null;
  hasRun: boolean;
}

/** What a vCPU is made of. */
export interface CpuParts extends VcpuBackend {
  readonly vcpuIndex: number;
  readonly apicId: number;
  /** The boot CPU: runs after power-up, where the others wait for a SIPI. */
  readonly bootstrap: boolean;
  readonly shared: SharedState;
  readonly devices: DevicePort;
  readonly reset: ResetState;
  /** Guest memory from guest-physical address 0, where the guest is offered PV EOI. */
  readonly ram?: Uint8Array;
  /** An observer; null or none where nobody asked for a trace. */
  readonly trace?: MachineTrace | null;
}

/** A vCPU on our local APIC. */
export function userCpu(parts: CpuParts, apic: LocalApic): Cpu {
  const { vcpuIndex, apicId, vcpu, run, ram, trace = null } = parts;
  const pvEoi = ram === undefined ? null : new PvEoi(apic, ram);
  const interrupts = new UserInterrupts(parts, apic, pvEoi);
  const doors = new ApicDoors(apic, interrupts, pvEoi);
  return { vcpuIndex, apicId, vcpu, run, interrupts, apic: doors, trace, hasRun: false };
}

/** A vCPU on KVM's in-kernel local APIC. */
export function kernelCpu(parts: CpuParts): Cpu {
  const { vcpuIndex, apicId, vcpu, run, trace = null } = parts;
  return { vcpuIndex, apicId, vcpu, run, interrupts: new KernelInterrupts(parts), apic: null, trace, hasRun: false };
}
