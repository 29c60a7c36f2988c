/**
 * The world of the run loop's scenarios: workers with the real scheduler, interrupts and local APICs, whose vCPUs are
 * scripts, and other threads that have the same memory. vCPU v has APIC ID v; all are software-enabled and run without SIPI.
 */
import { ApicSystem, REG } from '../../apic/index.ts';
import { ApicMemory } from '../../apic/layout.ts';
import { ExitReason } from '../../kvm/constants.ts';
import { type Cpu, userCpu } from '../../machine/loop/cpu.ts';
import { captureResetState, type ResetState } from '../../machine/loop/cpu-state.ts';
import { Scheduler, type SchedulerHooks } from '../../machine/loop/scheduler.ts';
import { type ScriptedExit, type ScriptedStep, ScriptedVcpu } from '../../machine/loop/scripted-vcpu.ts';
import { type DevicePort, RemoteDevices, serveMailboxes } from '../../machine/shared/mailbox.ts';
import { Attention, MachineWord, SharedState, WorkerWord } from '../../machine/shared/shared.ts';
import { wakeVcpu } from '../../machine/shared/signals.ts';
import type { Region } from '../memory.ts';
import { ownWords } from '../own-words.ts';
import { apicWordName } from '../word-names.ts';
import { ExploredHost } from './explored-host.ts';
import { machineWordName } from './machine-names.ts';

export const HLT: ScriptedExit = { exitReason: ExitReason.HLT, ifFlag: true };
/** With interrupts off: only an NMI ends it. */
export const HLT_IF_OFF: ScriptedExit = { exitReason: ExitReason.HLT, ifFlag: false };
/** An exit that leaves APIC and devices alone: interrupts are on, and no NMI handler runs any more. */
export const READY: ScriptedExit = { exitReason: ExitReason.INTR, ifFlag: true, nmiEnded: true };
/** The guest ends the interrupt that it handles. */
const EOI: ScriptedExit = {
  ...READY,
  exitReason: ExitReason.MMIO,
  mmioAddress: 0xfee0_0000 + REG.EOI,
  mmioIsWrite: true,
  mmioData: [0, 0, 0, 0],
};
const EINTR = 4;
const MAX_VCPUS = 4;
const MASKED = 0x10000;

/** What a guest does: its steps, as it goes. */
export type Guest = (thread: WorkerThread, vcpu: ScriptedVcpu) => Iterable<ScriptedStep>;

export interface Layout {
  /** For each worker its vCPUs, by index; their guests. */
  readonly workers: readonly Readonly<Record<number, Guest>>[];
  /** What the scenario's own words are called. */
  readonly words?: readonly string[];
  /** Before the threads start. */
  prepare?(world: MachineWorld): void;
}

/** A thread's view of the machine. */
export class MachineThread {
  readonly host: ExploredHost;
  readonly shared: SharedState;
  readonly system: ApicSystem;
  /** The scenario's own words. */
  readonly own: Int32Array;
  readonly worker: number;

  /** @param worker the thread's number; past the workers, a thread that is none */
  constructor(world: MachineWorld, worker: number) {
    this.worker = worker;
    const kicks = world.kicks();
    this.own = world.own();
    this.host = new ExploredHost(worker, kicks);
    this.shared = new SharedState(MAX_VCPUS, this.host, world.shared.buffer);
    this.system = ApicSystem.attach(world.apicMemory, { wake: (index) => wakeVcpu(this.shared, index, worker) });
  }

  /** A fixed interrupt, or a message of another mode, to a vCPU. */
  send(to: number, vector: number, deliveryMode = 0): number {
    return this.system.deliver({ destination: to, vector, deliveryMode });
  }
}

/** A worker: its run loop, its vCPUs. */
export class WorkerThread extends MachineThread {
  readonly scheduler: Scheduler;
  readonly devices: DevicePort;
  readonly cpus: Cpu[] = [];
  readonly vcpus = new Map<number, ScriptedVcpu>();
  onControl: () => void = () => {};
  onHaltedForGood: () => void = () => {};
  /** The devices of worker 0. */
  onRead: (address: number) => number = () => 0;
  onWrite: (address: number, value: number) => void = () => {};
  onPic: () => number = () => -1;

  readonly #reset: ResetState;

  constructor(world: MachineWorld, worker: number, guests: Readonly<Record<number, Guest>>) {
    super(world, worker);
    this.#reset = world.reset;
    const local: DevicePort = {
      read: (_space, address) => this.onRead(address),
      write: (_space, address, _size, value) => this.onWrite(address, value),
      endOfInterrupt: () => {},
      acknowledgePic: () => this.onPic(),
    };
    this.devices = worker === 0 ? local : new RemoteDevices(this.shared, worker);
    this.scheduler = new Scheduler(this.shared, worker, this.#hooks(local));
    for (const [index, guest] of Object.entries(guests)) this.#addCpu(Number(index), guest);
    this.scheduler.start();
  }

  #hooks(local: DevicePort): SchedulerHooks {
    return {
      devices: this.devices,
      end: (reason, _status, detail) => {
        throw new Error(detail ?? reason);
      },
      control: () => this.onControl(),
      serveMailboxes: () => this.worker === 0 && serveMailboxes(this.shared, local),
      deviceDeadlineNanos: () => Number.POSITIVE_INFINITY,
      advanceDevices: () => {},
      idle: () => {},
      haltedForGood: () => this.onHaltedForGood(),
      firstRun: (cpu) => {
        cpu.hasRun = true;
      },
    };
  }

  #addCpu(vcpuIndex: number, guest: Guest): void {
    const backend: ScriptedVcpu = new ScriptedVcpu(
      this.host,
      steps(
        () => guest(this, backend),
        () => backend,
      ),
    );
    const { vcpu, run } = backend;
    const parts = { vcpuIndex, apicId: vcpuIndex, bootstrap: true, vcpu, run, reset: this.#reset };
    const cpu = userCpu({ ...parts, shared: this.shared, devices: this.devices }, this.system.apic(vcpuIndex));
    this.vcpus.set(vcpuIndex, backend);
    this.cpus.push(cpu);
    this.scheduler.addCpu(cpu);
  }

  /** Ends this worker's run, at its next look. */
  readonly stop = (): void => {
    Atomics.or(this.shared.words, this.shared.worker(this.worker, WorkerWord.attention), Attention.stop);
  };

  /** The same as a step of a guest. */
  readonly end: ScriptedStep = () => {
    this.stop();
    return -EINTR;
  };

  /** Runs until somebody stops it. @returns what its guests took, as bits in the order of `events` */
  loop(...events: readonly string[]): number {
    this.scheduler.loop();
    const taken = [...this.vcpus.values()].flatMap((vcpu) => vcpu.taken);
    return events.reduce((bits, event, bit) => bits | (taken.includes(event) ? 1 << bit : 0), 0);
  }
}

/** What the guest does, and its handlers, which end each interrupt before anything else. */
function* steps(guest: () => Iterable<ScriptedStep>, vcpu: () => ScriptedVcpu): Iterable<ScriptedStep> {
  let handled = 0;
  const main = guest()[Symbol.iterator]();
  for (;;) {
    if (vcpu().taken.length > handled) {
      handled = vcpu().taken.length;
      yield EOI;
      continue;
    }
    const next = main.next();
    if (next.done === true) return;
    yield next.value;
  }
}

export class MachineWorld {
  readonly layout: Layout;
  readonly shared: SharedState;
  readonly apicMemory: SharedArrayBuffer | ArrayBuffer;
  readonly regions: readonly Region[];
  /** What a vCPU has that has never run. */
  readonly reset: ResetState;
  readonly kicks: () => Int32Array;
  readonly own: () => Int32Array;

  constructor(layout: Layout) {
    this.layout = layout;
    const { workers } = layout;
    const kicks = ownWords(workers.map((_, worker) => `kick of worker ${worker}`));
    const own = ownWords(layout.words ?? []);
    this.kicks = kicks.view;
    this.own = own.view;
    const count = workers.reduce((sum, guests) => sum + Object.keys(guests).length, 0);
    const system = new ApicSystem({ maxApics: Math.max(1, count), maxApicId: 0xff });
    for (let id = 0; id < count; id++) {
      const apic = system.addApic(id, { bootstrap: true });
      apic.writeMmio(REG.SPIV, 4, 0x1ff);
      apic.writeMmio(REG.LVT_LINT0, 4, MASKED);
    }
    this.apicMemory = system.memory;
    this.shared = new SharedState(MAX_VCPUS, new ExploredHost(0, kicks.view()));
    this.reset = captureResetState(new ScriptedVcpu(new ExploredHost(0, kicks.view()), []).vcpu, []);
    Atomics.store(this.shared.words, MachineWord.workers, workers.length);
    for (const [worker, guests] of workers.entries()) {
      Atomics.store(this.shared.words, this.shared.worker(worker, WorkerWord.threadId), worker);
      for (const index of Object.keys(guests)) this.shared.setHome(Number(index), worker);
      new WorkerThread(this, worker, guests); // what its set-up writes is there before the threads start
    }
    layout.prepare?.(this);
    const apicLayout = ApicMemory.attach(system.memory);
    this.regions = [
      { buffer: system.memory, name: (word) => apicWordName(apicLayout, word) },
      { buffer: this.shared.buffer, name: (word) => machineWordName(this.shared, word) },
      kicks.region,
      own.region,
    ];
  }

  /** A worker, as its thread sets it up. */
  worker(worker: number): WorkerThread {
    return new WorkerThread(this, worker, this.layout.workers[worker] ?? {});
  }

  /** Main, a device, or a test: a thread that is no worker. */
  outsider(): MachineThread {
    return new MachineThread(this, this.layout.workers.length);
  }
}

export function machine(layout: Layout): { regions: readonly Region[]; world: MachineWorld } {
  const world = new MachineWorld(layout);
  return { regions: world.regions, world };
}
