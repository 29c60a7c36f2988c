/**
 * What happened to interrupts and CPUs, on its way from the worker that saw it to the main thread, in batches. The outbox
 * holds a worker back that is too fast: tracing slows a guest down, it never grows the monitor.
 */
import type { ApicTrace, ApicTraceEvent } from '../apic/index.ts';

/** What a vCPU's worker sees of it, beside what its APIC tells. */
export type LoopTraceEvent =
  /** An interrupt went into the guest, from the local APIC or by LINT0 from the PICs: kvm_inj_virq. */
  | { readonly kind: 'inject'; readonly vcpuIndex: number; readonly vector: number; readonly from: 'apic' | 'pic' }
  /** An NMI was handed to KVM. */
  | { readonly kind: 'nmi'; readonly vcpuIndex: number }
  /** HLT, its end, INIT (waiting for SIPI), SIPI (running), removal (parked). */
  | {
      readonly kind: 'state';
      readonly vcpuIndex: number;
      readonly state: 'running' | 'halted' | 'waiting for SIPI' | 'parked';
    }
  /** The PICs' INTR output changed. */
  | { readonly kind: 'pic'; readonly level: boolean };

/** What the machine asked of the guest about a CPU, and what it answered. */
export interface HotplugTraceEvent {
  readonly kind: 'hotplug';
  readonly what: 'plug' | 'unplug' | 'ejected' | 'ost';
  readonly apicId: number;
}

/** As `machine.on('trace')` gives it. */
export type TraceEvent = (ApicTraceEvent | LoopTraceEvent | HotplugTraceEvent) & {
  /** When it happened: nanoseconds of the host's monotonic clock. */
  readonly nanos: number;
};

/** A worker's observer; null where nobody asked for a trace. */
export interface MachineTrace extends ApicTrace {
  event(event: ApicTraceEvent | LoopTraceEvent): void;
}

const BATCH_EVENTS = 128;
/** Targets of a batch's events, and what a scan says of them: a broadcast to a thousand CPUs fills a batch alone. */
const BATCH_TARGETS = 512;

export class TraceRecorder implements MachineTrace {
  #batch: TraceEvent[] = [];
  #targets = 0;
  readonly #now: () => number;
  readonly #send: (events: readonly TraceEvent[]) => void;

  constructor(now: () => number, send: (events: readonly TraceEvent[]) => void) {
    this.#now = now;
    this.#send = send;
  }

  event(event: ApicTraceEvent | LoopTraceEvent): void {
    this.#batch.push({ ...event, nanos: this.#now() });
    if (event.kind === 'route') this.#targets += event.targets.length + event.scan.length;
    if (this.#batch.length >= BATCH_EVENTS || this.#targets >= BATCH_TARGETS) this.flush();
  }

  flush(): void {
    if (this.#batch.length === 0) return;
    this.#send(this.#batch);
    this.#batch = [];
    this.#targets = 0;
  }
}
