/**
 * What happened to interrupts and CPUs, on its way from the worker that saw it to the main thread, in batches. The outbox
 * holds a worker back that is too fast: tracing slows a guest down, it never grows the monitor.
 */
import type { ApicTrace, ApicTraceEvent } from '../apic/index.ts';
import { exitName } from '../kvm/constants.ts';

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
  | { readonly kind: 'pic'; readonly level: boolean }
  /** Exits to userspace since the vCPU was made, by the name of their reason (`IO`, `MMIO`, `HLT`). Told now and then. */
  | { readonly kind: 'exits'; readonly vcpuIndex: number; readonly counts: Readonly<Record<string, number>> };

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
  /** KVM_RUN returned for a reason of its own (KVM_EXIT_*). */
  exit(vcpuIndex: number, reason: number): void;
}

const BATCH_EVENTS = 128;
/** Targets of a batch's events, and what a scan says of them: a broadcast to a thousand CPUs fills a batch alone. */
const BATCH_TARGETS = 512;
/** Counters are told after so many exits, and with every batch. */
const BATCH_EXITS = 1024;

export class TraceRecorder implements MachineTrace {
  #batch: TraceEvent[] = [];
  #targets = 0;
  /** By vCPU index, then by reason. */
  readonly #exits = new Map<number, Map<number, number>>();
  readonly #counted = new Set<number>();
  #untoldExits = 0;
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

  exit(vcpuIndex: number, reason: number): void {
    let counts = this.#exits.get(vcpuIndex);
    if (counts === undefined) {
      counts = new Map();
      this.#exits.set(vcpuIndex, counts);
    }
    counts.set(reason, (counts.get(reason) ?? 0) + 1);
    this.#counted.add(vcpuIndex);
    if (++this.#untoldExits >= BATCH_EXITS) this.flush();
  }

  #tellExits(): void {
    for (const vcpuIndex of this.#counted) {
      const counts = Object.fromEntries([...(this.#exits.get(vcpuIndex) ?? [])].map(named));
      this.#batch.push({ kind: 'exits', vcpuIndex, counts, nanos: this.#now() });
    }
    this.#counted.clear();
    this.#untoldExits = 0;
  }

  flush(): void {
    this.#tellExits();
    if (this.#batch.length === 0) return;
    this.#send(this.#batch);
    this.#batch = [];
    this.#targets = 0;
  }
}

/** As the counter is called: `IO` for KVM_EXIT_IO. */
const named = ([reason, count]: readonly [reason: number, count: number]): [name: string, count: number] => [
  exitName(reason).replace('KVM_EXIT_', ''),
  count,
];
