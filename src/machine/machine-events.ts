/** What a machine tells whoever made it: events while it lives, one result at the end. */
import type { EndReason } from './shared/messages.ts';
import type { TraceEvent } from './trace.ts';

/** How a run ended, and the status that the command exits with. */
export interface RunResult {
  readonly reason: EndReason | 'timeout' | 'stopped';
  /** 0-255. A guest's own, through the debug exit port, is odd; else one of `Status` (status.ts). */
  readonly status: number;
  /** What happened, where the guest did not end the run itself: for failures a line and registers; then each CPU and its verdict. */
  readonly detail?: string;
}

/** What `machine.on` can be asked for. */
export interface MachineEvents {
  /**
   * What the guest wrote to its serial port. A Buffer: write it out as it is, or `String(chunk)`. A listener that returns a
   * promise holds further output back until it is settled, and after a few KiB the guest.
   */
  serial: [chunk: Buffer];
  /** What it wrote to a debug console, with the option `debugConsole: 'stderr'`. As 'serial'. */
  debugOutput: [chunk: Buffer];
  exit: [result: RunResult];
  /** The guest ejected a CPU after `unplug`. */
  ejected: [apicId: number];
  /** The guest's report on a hotplug event (ACPI _OST): event 1 insertion, 3 removal; status 0 is success. */
  ost: [apicId: number, event: number, status: number];
  /** The guest's first call of a BIOS, of which this machine has next to none: interrupt vector and AX. */
  biosCall: [vector: number, ax: number];
  /** A vCPU enters the guest for the first time; nanoseconds of CLOCK_MONOTONIC. */
  firstRun: [apicId: number, nanos: number];
  /** With the `trace` option: what happened to interrupts and CPUs. */
  trace: [event: TraceEvent];
}
