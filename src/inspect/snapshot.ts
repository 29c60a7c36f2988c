/**
 * A machine at one moment, as plain data: what a report and a verdict are made from. Whoever has the parts puts it together
 * (machine.inspect(), tests from an ApicSystem alone); nothing here knows threads or KVM, and nothing on a hot path knows of
 * this.
 */
import type { ApicMapSnapshot, LocalApicSnapshot } from '../apic/index.ts';

/** `starting`: given to its worker, not yet in the guest for the first time. */
export type VcpuState = 'running' | 'halted' | 'waiting for SIPI' | 'parked';

/** A message that a CPU sent last, as its ICR still says, and whom it would reach now. APIC IDs throughout. */
export interface SentMessage {
  readonly from: number;
  /** 0-7, see DELIVERY. */
  readonly deliveryMode: number;
  /** 0-255. */
  readonly vector: number;
  /** Physical or logical ID, 0-0xffffffff; meaningless with a shorthand. */
  readonly destination: number;
  readonly logical: boolean;
  /** 0 none, 1 self, 2 all, 3 all but self. */
  readonly shorthand: number;
  readonly path: 'self' | 'map' | 'scan';
  readonly targets: readonly number[];
}

/** A vCPU, its local APIC and what it sent last. */
export interface VcpuSnapshot {
  readonly apicId: number;
  readonly state: VcpuState;
  /** Undefined while the vCPU could not be asked: its worker was busy. */
  readonly registers?: { readonly rip: bigint; readonly interruptFlag: boolean };
  readonly apic: LocalApicSnapshot;
  /** Undefined: nothing, or a mode that is no message. */
  readonly sent?: SentMessage;
  /** Exits to KVM since the start, by KVM's own count; undefined where the kernel has none (before 5.14). */
  readonly exits?: number;
  /** Whether LINT0 lets the PICs' interrupt in. */
  readonly acceptsPic: boolean;
}

/** An entry of the I/O APIC's redirection table, and its line. */
export interface IoApicPin {
  readonly pin: number;
  readonly vector: number;
  readonly masked: boolean;
  readonly levelTriggered: boolean;
  readonly remoteIrr: boolean;
  /** The line is high, or an edge waits. */
  readonly pending: boolean;
  /** APIC IDs of those that the entry would reach now. */
  readonly targets: readonly number[];
}

/** Bit n is ISA IRQ n. */
export interface PicView {
  readonly requested: number;
  readonly masked: number;
  readonly inService: number;
  /** The master's INT output, LINT0 of the local APICs. */
  readonly output: boolean;
}

/** A machine at one moment, as plain data; `describeMachine` makes text of it. */
export interface MachineSnapshot {
  /** Nanoseconds of CLOCK_MONOTONIC: what timer deadlines are compared with. */
  readonly nowNanos: number;
  /** In the order of creation. */
  readonly vcpus: readonly VcpuSnapshot[];
  /** Null with KVM's own APICs, which do not show it. */
  readonly map: ApicMapSnapshot | null;
  readonly x2apicFormat: boolean;
  readonly ioapic: readonly IoApicPin[];
  readonly pic: PicView | null;
  /** Accesses that no device claimed since the start. */
  readonly unclaimed: number;
}
