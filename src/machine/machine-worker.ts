/**
 * A worker: builds its half of a machine from what main sends, runs its vCPUs until the end, cleans up after itself. Worker 0
 * owns the devices as well. Messages from main are taken between two runs (`receiveMessageOnPort`).
 *
 * On a thread of its own (worker.ts) it blocks in `run` until the machine ends. Worker 0 may begin on main (opening.ts), in
 * `turn`s, and move to a thread between two of them: what is neither in shared memory nor in KVM is its `handOver`.
 */
import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import { ApicSystem } from '../apic/index.ts';
import type { BootState } from '../boot/index.ts';
import { KvmError, native, sandbox, Vcpu, Vm } from '../kvm/index.ts';
import type { LoadedDevices } from './board/device-modules.ts';
import { kernelRouter, userRouter } from './board/interrupt-router.ts';
import { Platform, type PlatformEvent } from './board/platform.ts';
import { inspectCpu, type WorkerInspection } from './inspection.ts';
import { type Cpu, type CpuParts, kernelCpu, userCpu } from './loop/cpu.ts';
import { finishExit } from './loop/cpu-save.ts';
import { applyBootState, applyFirmwareState, type ResetState } from './loop/cpu-state.ts';
import { describeHalt } from './loop/failure.ts';
import { Scheduler } from './loop/scheduler.ts';
import type { VcpuBackend, VcpuDescriptor, VcpuRun } from './loop/vcpu-backend.ts';
import { type DevicePort, RemoteDevices, serveMailboxes } from './shared/mailbox.ts';
import type {
  CpuHandle,
  EndReason,
  FromWorker,
  Handover,
  MachineHandles,
  MachinePart,
  ToWorker,
} from './shared/messages.ts';
import { nativeHost } from './shared/native-host.ts';
import { Outbox, STOP_CHECK_MS } from './shared/outbox.ts';
import { Attention, MachineWord, RunState, SharedState, WorkerWord } from './shared/shared.ts';
import { signalWorker, wakeVcpu } from './shared/signals.ts';
import { Status } from './status.ts';
import { TraceRecorder } from './trace.ts';

const IA32_TSC = 0x10;
const FIRST_WIDE_ID = 255;
const HALTED = 'every CPU is halted with interrupts off, and nothing can wake one (--keep-halted waits all the same)';
const MAX_CPUS_NAMED = 4;
/** Ends that a PC answers by starting again. */
const REBOOTS: ReadonlySet<EndReason> = new Set(['reset', 'triple-fault']);

export type OpenVcpu = (cpu: CpuHandle) => VcpuBackend;

export interface MachineWorkerParts {
  readonly openVcpu: OpenVcpu;
  /** For worker 0's board. */
  readonly devices?: readonly LoadedDevices[];
  /** On main, by `turn`, rather than on a thread of its own. */
  readonly inTurns?: boolean;
}

/** What a worker that is to be given another turn waits for before: that `words[index]` is not `value`, or `millis`. */
export interface Sleep {
  readonly index: number;
  readonly value: number;
  /** Above 0; Infinity for no end. */
  readonly millis: number;
}

interface Home {
  readonly handle: CpuHandle;
  readonly reset: ResetState;
}

export class MachineWorker {
  readonly #worker: number;
  readonly #port: MessagePort;
  readonly #outbox: Outbox;
  readonly #handles: MachineHandles;
  readonly #ram: Uint8Array;
  readonly #shared: SharedState;
  readonly #system: ApicSystem | null;
  readonly #trace: TraceRecorder | null;
  readonly #platform: Platform | null;
  readonly #devices: DevicePort;
  readonly #scheduler: Scheduler;
  readonly #openVcpu: OpenVcpu;
  readonly #inTurns: boolean;
  readonly #runs: VcpuRun[] = [];
  /** What the vCPUs were made of, by index. */
  readonly #homes: Home[] = [];
  /** The requests whose bytes the serial port has not taken yet, in order. */
  readonly #typing: number[] = [];
  #keepDevices = false;

  /** @throws ConfigError when one of the devices cannot be there */
  constructor(
    { worker, port, handles, handover }: MachinePart,
    { openVcpu, devices = [], inTurns = false }: MachineWorkerParts,
  ) {
    this.#openVcpu = openVcpu;
    this.#inTurns = inTurns;
    this.#worker = worker;
    this.#port = port;
    this.#handles = handles;
    this.#shared = new SharedState(handles.maxVcpus, nativeHost, handles.shared);
    this.#ram = handles.memory;
    this.#outbox = new Outbox(this.#shared, worker, port, handles.maxBacklog);
    this.#trace = handles.config.trace
      ? new TraceRecorder(native.nowNanos, (events) => this.#send({ type: 'trace', events }))
      : null;
    this.#system = handles.apicMemory ? ApicSystem.attach(handles.apicMemory, this.#apicHost()) : null;
    this.#platform = worker === 0 ? this.#makePlatform(devices) : null;
    this.#devices = this.#platform ?? new RemoteDevices(this.#shared, worker);
    this.#scheduler = this.#makeScheduler();
    const { words } = this.#shared;
    Atomics.store(words, this.#shared.worker(worker, WorkerWord.threadId), native.threadId());
    if (handover) this.#takeOver(handover);
  }

  run(): void {
    try {
      this.#scheduler.loop();
    } finally {
      this.close();
    }
  }

  /**
   * Runs the guest until `untilNanos` at the latest; less where main has not dealt with what it said.
   * @returns what to wait for before the next turn; undefined where it would go on at once, or `isOver`
   */
  turn(untilNanos: number): Sleep | undefined {
    const { words } = this.#shared;
    const attention = this.#shared.worker(this.#worker, WorkerWord.attention);
    const backlog = this.#outbox.full;
    if (backlog >= 0 && (Atomics.load(words, attention) & Attention.stop) === 0) {
      return { index: this.#outbox.backlogWord, value: backlog, millis: STOP_CHECK_MS };
    }
    const next = this.#scheduler.turn(untilNanos);
    const millis = next === 0 ? 0 : (next - native.nowNanos()) / 1e6;
    return millis > 0 ? { index: attention, value: 0, millis } : undefined;
  }

  get shared(): SharedState {
    return this.#shared;
  }

  /** The machine has ended, as far as this worker is concerned: `close` is all that is left. */
  get isOver(): boolean {
    return this.#scheduler.isOver;
  }

  close(): void {
    this.#flush();
    this.#leave();
    this.#port.close();
  }

  /**
   * Between two turns: leaves this thread for another, where a MachineWorker of the same part goes on from what is answered.
   * The messages that wait are in the port, which goes there too; whoever sends to its vCPUs meanwhile leaves bits in shared
   * memory, which are looked at before the first of them runs.
   */
  handOver(): Handover {
    const platform = this.#platform;
    if (!platform) throw new Error('only worker 0 moves');
    // With its exit finished, a vCPU has nothing on offer to its guest (PV EOI), and its registers are whole.
    // One that has not run is at a boundary, and stays no thread's: KVM_RUN from a second one waits for a grace period (RCU).
    for (const cpu of this.#scheduler.cpus) {
      if (cpu.hasRun) finishExit(cpu, { devices: this.#devices, end: this.#end });
    }
    const nanos = native.nowNanos();
    const cpus = this.#scheduler.cpus.map((cpu) => ({
      ...this.#homes[cpu.vcpuIndex],
      loop: cpu.interrupts.save(),
      hasRun: cpu.hasRun,
    }));
    const started = this.#scheduler.isStarted;
    const keepDevices = this.#keepDevices;
    const input = platform.untyped().map((bytes, index) => ({ bytes, reply: this.#typing[index] }));
    const handover = { nanos, cpus, board: platform.save(nanos), input, started, keepDevices };
    this.#leave();
    return handover;
  }

  #takeOver({ nanos, cpus, board, input, started, keepDevices }: Handover): void {
    this.#platform?.restore(board, nanos);
    for (const { bytes, reply } of input) this.#type(bytes, reply);
    for (const { handle, reset, loop, hasRun } of cpus) {
      const cpu = this.#openCpu(handle, reset);
      cpu.interrupts.restore(loop);
      cpu.hasRun = hasRun;
      this.#scheduler.addCpu(cpu);
      this.#scheduler.review(cpu);
    }
    this.#keepDevices = keepDevices;
    if (started) this.#scheduler.start();
  }

  #leave(): void {
    this.#scheduler.leave();
    for (const run of this.#runs) run.unmap();
  }

  /** A vCPU of this worker has been in the guest. */
  get hasRun(): boolean {
    return this.#scheduler.cpus.some((cpu) => cpu.hasRun);
  }

  #send(message: FromWorker): void {
    if (!this.#inTurns) {
      this.#outbox.send(message);
      return;
    }
    this.#outbox.put(message);
    if (this.#outbox.full >= 0) this.#scheduler.endTurn();
  }

  #apicHost(): ConstructorParameters<typeof ApicSystem>[1] {
    return {
      nowNanos: native.nowNanos,
      guestTsc: (vcpuIndex) => readTsc(this.#scheduler.cpu(vcpuIndex)?.vcpu),
      wake: (vcpuIndex) => wakeVcpu(this.#shared, vcpuIndex, this.#worker),
      eoi: (_vcpuIndex, vector) => this.#devices.endOfInterrupt(vector),
      trace: this.#trace,
    };
  }

  #makePlatform(devices: readonly LoadedDevices[]): Platform {
    const router = this.#system
      ? userRouter(this.#system)
      : kernelRouter(Vm.fromFd(this.#handles.vmFd, this.#handles.runSize));
    const host = {
      router,
      extendedDestinations: this.#handles.extendedDestinations,
      nowNanos: native.nowNanos,
      mainIsIdle: () => this.#outbox.isEmpty,
      screenMoved: (cell: number) => void Atomics.store(this.#shared.words, MachineWord.screenStart, cell),
      report: (event: PlatformEvent) => this.#report(event),
    };
    return new Platform(this.#handles.config, this.#ram, host, devices);
  }

  #report(event: PlatformEvent): void {
    switch (event.type) {
      case 'pic-interrupt':
        this.#picInterrupt(event.level);
        break;
      case 'power-off':
        this.#end('shutdown', 0);
        break;
      case 'debug-exit':
        this.#end('debug-exit', event.status);
        break;
      case 'reset':
      case 'restart':
        this.#keepDevices = event.type === 'restart';
        this.#end('reset', 0);
        break;
      default:
        this.#send(event);
    }
  }

  /** Worker 0 decides, since it knows the devices; another worker wakes it, so that it looks. */
  #haltedForGood(): void {
    const platform = this.#platform;
    if (!platform) signalWorker(this.#shared, 0, Attention.reschedule);
    else if (!this.#handles.config.keepHalted && !platform.canWakeHalted()) {
      const where = this.#scheduler.cpus.slice(0, MAX_CPUS_NAMED).map(describeHalt);
      this.#end('halted', Status.halted, [HALTED, ...where].join('\n  '));
    }
  }

  /** Wakes the CPUs whose LINT0 takes it: with KVM's own APICs, the boot CPU. */
  #picInterrupt(level: boolean): void {
    Atomics.store(this.#shared.words, MachineWord.picInterrupt, level ? 1 : 0);
    this.#trace?.event({ kind: 'pic', level });
    if (!level) return;
    const system = this.#system;
    if (!system) wakeVcpu(this.#shared, 0, this.#worker);
    for (let index = 0; system && index < system.count; index++) {
      if (system.apic(index).acceptsPic()) wakeVcpu(this.#shared, index, this.#worker);
    }
  }

  #makeScheduler(): Scheduler {
    const platform = this.#platform;
    return new Scheduler(this.#shared, this.#worker, {
      devices: this.#devices,
      end: this.#end,
      control: () => this.#control(),
      serveMailboxes: () => platform && serveMailboxes(this.#shared, platform),
      deviceDeadlineNanos: platform ? () => platform.deadlineNanos() : () => Number.POSITIVE_INFINITY,
      advanceDevices: (nowNanos) => platform?.advance(nowNanos),
      idle: () => this.#flush(),
      haltedForGood: () => this.#haltedForGood(),
      firstRun: (cpu) => {
        cpu.hasRun = true;
        this.#send({ type: 'first-run', apicId: cpu.apicId, nanos: native.nowNanos() });
      },
    });
  }

  readonly #end = (reason: EndReason, status: number, detail?: string): void => {
    this.#flush();
    if (this.#handles.config.reboot && REBOOTS.has(reason)) {
      this.#scheduler.hold();
      this.#send({ type: 'reboot' });
      return;
    }
    this.#send({ type: 'end', reason, status, ...(detail === undefined ? {} : { detail }) });
    Atomics.or(this.#shared.words, this.#shared.worker(this.#worker, WorkerWord.attention), Attention.stop);
  };

  #flush(): void {
    this.#platform?.flushConsole();
    this.#trace?.flush();
  }

  #control(): void {
    for (let item = receiveMessageOnPort(this.#port); item; item = receiveMessageOnPort(this.#port)) {
      const message = item.message as ToWorker;
      try {
        const value = this.#handle(message);
        if (!('reply' in message) || message.type === 'serial-input') continue;
        this.#send({ type: 'reply', reply: message.reply, ...(value === undefined ? {} : { value }) });
      } catch (error) {
        if (!('reply' in message)) throw error;
        this.#send({
          type: 'reply',
          reply: message.reply,
          error: {
            message: error instanceof Error ? error.message : String(error),
            host: error instanceof KvmError,
          },
        });
      }
    }
  }

  #inspect(): WorkerInspection {
    const { use32bitIds } = this.#handles.config;
    const now = native.nowNanos();
    return {
      vcpus: this.#scheduler.cpus.map((cpu) => inspectCpu(cpu, use32bitIds, now)),
      board: this.#platform?.inspect() ?? null,
    };
  }

  /** @returns what the answer carries */
  #handle(message: ToWorker): WorkerInspection | undefined {
    switch (message.type) {
      case 'cpus':
        for (const handle of message.cpus) this.#addCpu(handle, message.reset);
        break;
      case 'slots':
        for (const { apicId, enabled } of message.slots) this.#platform?.addSlot(apicId, enabled);
        break;
      case 'start':
        this.#start(message.boot);
        break;
      case 'plug':
        this.#platform?.plug(message.slot);
        break;
      case 'unplug':
        this.#platform?.requestUnplug(message.slot);
        break;
      case 'park':
      case 'unpark':
        this.#park(message.vcpuIndex, message.type === 'park');
        break;
      case 'hold':
        this.#scheduler.hold();
        break;
      case 'sandbox':
        sandbox('this thread');
        break;
      case 'power-up':
        this.#powerUp();
        break;
      case 'power-button':
        this.#platform?.pressPowerButton();
        break;
      case 'serial-input':
        this.#type(message.bytes, message.reply);
        break;
      case 'inspect':
        return this.#inspect();
    }
    return undefined;
  }

  /** @param reply is told when the serial port has taken all of it */
  #type(bytes: Uint8Array, reply: number): void {
    this.#typing.push(reply);
    this.#platform?.type(bytes, () => {
      this.#typing.shift();
      this.#send({ type: 'reply', reply });
    });
  }

  #addCpu(handle: CpuHandle, reset: ResetState): void {
    const cpu = this.#openCpu(handle, reset);
    applyFirmwareState(cpu.vcpu);
    this.#scheduler.addCpu(cpu);
  }

  #openCpu(handle: CpuHandle, reset: ResetState): Cpu {
    const { vcpuIndex, apicId, bootstrap } = handle;
    const { vcpu, run } = this.#openVcpu(handle);
    this.#runs.push(run);
    this.#homes[vcpuIndex] = { handle, reset };
    const machine = { shared: this.#shared, devices: this.#devices, reset };
    const parts: CpuParts = { vcpuIndex, apicId, bootstrap, vcpu, run, ...machine, ram: this.#ram, trace: this.#trace };
    return this.#system ? userCpu(parts, this.#system.apic(vcpuIndex)) : kernelCpu(parts);
  }

  #park(vcpuIndex: number, park: boolean): void {
    const cpu = this.#scheduler.cpu(vcpuIndex);
    if (!cpu) return;
    if (park) cpu.interrupts.park();
    else cpu.interrupts.powerUp();
    this.#scheduler.review(cpu);
  }

  #powerUp(): void {
    if (!this.#keepDevices) this.#platform?.reset();
    this.#keepDevices = false;
    for (const cpu of this.#scheduler.cpus) {
      if (cpu.interrupts.state === RunState.parked) continue;
      cpu.interrupts.powerUp();
      this.#scheduler.review(cpu);
    }
  }

  /** Linux believes an APIC ID from 255 on, in the MADT, only if it starts in x2APIC mode: firmware's task on a real PC. */
  #hasWideIds(): boolean {
    const { cpus, hotpluggable } = this.#handles.config;
    return Math.max(...cpus, ...hotpluggable) >= FIRST_WIDE_ID;
  }

  /** The guest may run from now on. @param boot the boot CPU's entry state, for the worker that is its home */
  #start(boot: BootState | null): void {
    const bootCpu = this.#scheduler.cpu(0);
    if (boot && bootCpu) {
      applyBootState(bootCpu.vcpu, boot);
      if (boot.isLinux === true && this.#hasWideIds()) bootCpu.interrupts.startInX2apicMode();
    }
    this.#scheduler.start();
  }
}

/** What RDTSC would give the guest now. One ioctl, only when a deadline timer is set or read. */
function readTsc(vcpu: VcpuDescriptor | undefined): bigint {
  return vcpu?.getMsrs([IA32_TSC])[0]?.value ?? 0n;
}

/** The vCPUs of KVM, by the descriptors that main made. */
export function kvmVcpus(runSize: number): OpenVcpu {
  return ({ fd }) => {
    const vcpu = Vcpu.fromFd(fd, runSize);
    return { vcpu, run: vcpu.mapRun() };
  };
}
