/**
 * The world outside the APICs, behind five methods: time, the guest's TSC, a wake-up, EOIs for I/O APICs, and an observer.
 * One object for each thread. Nothing here is needed to use the APICs alone: time then stands at 0 and nobody is woken.
 */
import type { ApicTrace } from './trace.ts';

/**
 * What APICs need of the world: time, the guest's TSC, a wake-up, EOIs for I/O APICs, an observer. One for each
 * thread. All of it may be left out: time then stands at 0 and nobody is woken.
 */
export interface ApicHost {
  /** Monotonic time in nanoseconds, an integer. */
  nowNanos(): number;
  /** The guest's TSC, now, on this vCPU. Asked only by the deadline timer. */
  guestTsc(vcpuIndex: number): bigint;
  /**
   * Something waits for this vCPU (an IRR bit, NMI, SMI, INIT, SIPI, or a remote read that ends a HLT). Called on the
   * sender's thread, after the bits are set; may be called for the caller's own vCPU.
   */
  wake(vcpuIndex: number): void;
  /** The vCPU ended a level-triggered interrupt that I/O APICs must hear of. */
  eoi(vcpuIndex: number, vector: number): void;
  /** An observer (trace.ts), or null. While it is set every decision is explained, which allocates. */
  trace: ApicTrace | null;
}

export function completeHost(host: Partial<ApicHost>): ApicHost {
  return {
    nowNanos: host.nowNanos?.bind(host) ?? (() => 0),
    guestTsc: host.guestTsc?.bind(host) ?? (() => BigInt(Math.trunc(host.nowNanos?.() ?? 0))),
    wake: host.wake?.bind(host) ?? (() => {}),
    eoi: host.eoi?.bind(host) ?? (() => {}),
    trace: host.trace ?? null,
  };
}
