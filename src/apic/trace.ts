/**
 * What an observer of the APICs is told, as it happens, on the thread where it happens. Kinds that KVM has a tracepoint for
 * say which one (arch/x86/kvm/trace.h). Nothing is built for an observer that is not there: one check at each place.
 */
import type { RouteEvent } from './explain.ts';

/** What happened to an interrupt or an APIC; kinds that KVM has a tracepoint for name it. */
export type ApicTraceEvent =
  /** A message was routed: kvm_apic_ipi, kvm_msi_set_irq. */
  | ({ readonly kind: 'route' } & RouteEvent)
  /** A message reached an APIC: kvm_apic_accept_irq. `taken` false: dropped, as by one that is software-disabled. */
  | {
      readonly kind: 'accept';
      readonly vcpuIndex: number;
      readonly deliveryMode: number;
      readonly vector: number;
      readonly levelTriggered: boolean;
      readonly taken: boolean;
    }
  /** kvm_eoi. */
  | { readonly kind: 'eoi'; readonly vcpuIndex: number; readonly vector: number }
  /** The APIC timer ran out; masked: its LVT entry holds it back. */
  | { readonly kind: 'timer'; readonly vcpuIndex: number; readonly vector: number; readonly masked: boolean }
  /** IA32_APIC_BASE, ID, LDR, DFR or SVR was written: what others may see of this APIC. */
  | { readonly kind: 'register'; readonly vcpuIndex: number; readonly register: string; readonly value: number }
  /** A new map is in force, or none; `reason` says why there is none. */
  | { readonly kind: 'map'; readonly serial: number; readonly reason: string | null };

/** Who is told; called on the thread where it happens, before the call that caused it returns. */
export interface ApicTrace {
  /** One thing that happened. What it holds may be kept. */
  event(event: ApicTraceEvent): void;
}
