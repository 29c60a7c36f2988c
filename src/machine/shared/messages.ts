/**
 * What main and a worker say to each other. Plain objects: structured clone drops classes. A worker reads its port with
 * `receiveMessageOnPort` between two runs, since it never returns to its event loop; main rings it (Attention.control).
 */
import type { MessagePort } from 'node:worker_threads';
import type { BootState } from '../../boot/index.ts';
import type { SavedPlatform } from '../board/platform.ts';
import type { WorkerInspection } from '../inspection.ts';
import type { LoopState } from '../loop/cpu.ts';
import type { ResetState } from '../loop/cpu-state.ts';
import type { MachineConfig } from '../options.ts';
import type { TraceEvent } from '../trace.ts';

/** What a thread is given at birth. */
export interface ThreadStart {
  /** One word: the thread stores 1 and notifies once its program is loaded. */
  readonly loaded: Int32Array<SharedArrayBuffer>;
}

/** What a thread is told while it has no machine. */
export type ToThread = { readonly type: 'quit' } | ({ readonly type: 'machine' } & MachinePart);

/** Be this worker of that machine, until it ends; main's other end of `port` is how the two speak. */
export interface MachinePart {
  readonly worker: number;
  readonly port: MessagePort;
  readonly handles: MachineHandles;
  /** What the worker was on the thread that it comes from; none for one that begins. */
  readonly handover?: Handover;
}

/** Worker 0 on its way from main to a thread: what is neither in shared memory nor in KVM. */
export interface Handover {
  /** When it left. The devices' clocks do not stop for it. */
  readonly nanos: number;
  readonly cpus: readonly {
    readonly handle: CpuHandle;
    readonly reset: ResetState;
    readonly loop: LoopState;
    readonly hasRun: boolean;
  }[];
  readonly board: SavedPlatform;
  /** What the serial port has not taken yet, in order, and the requests that wait for it. */
  readonly input: readonly { readonly bytes: Uint8Array; readonly reply: number }[];
  readonly started: boolean;
  /** The next power-up is one of the CPUs alone. */
  readonly keepDevices: boolean;
}

/** The machine is over and the thread has let go of it. */
export interface FromThread {
  readonly type: 'free';
}

/** The machine that a worker belongs to; sent once the VM exists. */
export interface MachineHandles {
  readonly config: MachineConfig;
  readonly vmFd: number;
  readonly runSize: number;
  /** The I/O APIC's entries have destinations of 15 bits, not 8. */
  readonly extendedDestinations: boolean;
  readonly memory: Uint8Array<SharedArrayBuffer>;
  readonly apicMemory: SharedArrayBuffer | null;
  readonly shared: SharedArrayBuffer;
  readonly maxVcpus: number;
  /** How far each worker may be ahead of main, in messages (outbox.ts). */
  readonly maxBacklog: number;
}

export interface CpuHandle {
  readonly vcpuIndex: number;
  readonly apicId: number;
  readonly fd: number;
  readonly bootstrap: boolean;
}

export type ToWorker =
  | {
      readonly type: 'cpus';
      readonly cpus: readonly CpuHandle[];
      /** What a vCPU of this machine has that has never run. */
      readonly reset: ResetState;
      readonly reply: number;
    }
  /** Worker 0: the possible CPUs, in the order in which the guest sees them. */
  | { readonly type: 'slots'; readonly slots: readonly { apicId: number; enabled: boolean }[] }
  | { readonly type: 'start'; readonly boot: BootState | null }
  /** Worker 0: a CPU was put into a slot of the hotplug block, or is wanted back. */
  | { readonly type: 'plug' | 'unplug'; readonly slot: number; readonly reply: number }
  | { readonly type: 'park' | 'unpark'; readonly vcpuIndex: number; readonly reply: number }
  /** A reset of the machine, in two steps that every worker has done before the next: stand still, power up. */
  | { readonly type: 'hold' | 'power-up'; readonly reply: number }
  /** Seccomp for this thread, for good: no other machine gets it. */
  | { readonly type: 'sandbox'; readonly reply: number }
  /** Worker 0: the power button is pressed. */
  | { readonly type: 'power-button'; readonly reply: number }
  /** What the worker's vCPUs do, and what the interrupt controllers hold: answered in `value`. */
  | { readonly type: 'inspect'; readonly reply: number }
  | { readonly type: 'serial-input'; readonly bytes: Uint8Array; readonly reply: number };

/**
 * How a guest's run ends by itself. `debug-exit`: it said so, with a status; `shutdown`, `reset`, `triple-fault`: as
 * a PC does; `internal-error`: KVM cannot go on; `monitor-error`: a bug in apiary, or a thread that died.
 */
export type EndReason =
  | 'debug-exit'
  | 'shutdown'
  | 'triple-fault'
  | 'reset'
  /** Every CPU is halted with interrupts off, and no device can send an NMI. */
  | 'halted'
  | 'internal-error'
  | 'monitor-error';

/** Why a worker could not do what it was asked. `host`: the host said no (KvmError); otherwise the fault is ours. */
export interface ReplyError {
  readonly message: string;
  readonly host: boolean;
}

export type FromWorker =
  | { readonly type: 'reboot' }
  | { readonly type: 'reply'; readonly reply: number; readonly value?: WorkerInspection; readonly error?: ReplyError }
  | { readonly type: 'serial' | 'debug-output'; readonly bytes: Uint8Array }
  | { readonly type: 'end'; readonly reason: EndReason; readonly status: number; readonly detail?: string }
  | { readonly type: 'ejected'; readonly slot: number }
  | { readonly type: 'ost'; readonly slot: number; readonly event: number; readonly status: number }
  /** The guest's first call of a BIOS that is not there. */
  | { readonly type: 'bios-call'; readonly vector: number; readonly ax: number }
  | { readonly type: 'first-run'; readonly apicId: number; readonly nanos: number }
  | { readonly type: 'trace'; readonly events: readonly TraceEvent[] };
