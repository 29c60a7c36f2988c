/**
 * A worker thread: builds its half of a machine from what main sends, runs its vCPUs until the end, cleans up after itself,
 * and waits for the next machine. Worker 0 owns the devices as well.
 *
 * The thread blocks in the scheduler's loop and does not return to its event loop before the machine ends; messages from main
 * are taken between two runs (`receiveMessageOnPort`).
 */
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { ApicSystem } from '../apic/index.ts';
import type { BootState } from '../boot/index.ts';
import { KvmError, native, sandbox, Vcpu, Vm } from '../kvm/index.ts';
import { keepCode } from '../start/keep-code.ts';
import { type LoadedDevices, loadDevices } from './board/device-modules.ts';
import { kernelRouter, userRouter } from './board/interrupt-router.ts';
import { Platform, type PlatformEvent } from './board/platform.ts';
import { ConfigError } from './errors.ts';
import { inspectCpu, type WorkerInspection } from './inspection.ts';
import { type CpuParts, kernelCpu, userCpu } from './loop/cpu.ts';
import { applyBootState, applyFirmwareState, type ResetState } from './loop/cpu-state.ts';
import { describeHalt } from './loop/failure.ts';
import { Scheduler } from './loop/scheduler.ts';
import type { VcpuBackend, VcpuDescriptor, VcpuRun } from './loop/vcpu-backend.ts';
import { type DevicePort, RemoteDevices, serveMailboxes } from './shared/mailbox.ts';
import type {
  CpuHandle,
  EndReason,
  FromThread,
  FromWorker,
  MachineHandles,
  ThreadStart,
  ToThread,
  ToWorker,
} from './shared/messages.ts';
import { nativeHost } from './shared/native-host.ts';
import { Outbox } from './shared/outbox.ts';
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

/** What this thread is in a machine. */
type Part = Extract<ToThread, { type: 'machine' }>;
type OpenVcpu = (cpu: CpuHandle) => VcpuBackend;

class MachineWorker {
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
  readonly #runs: VcpuRun[] = [];
  #keepDevices = false;

  /** @param devices for worker 0's board @throws ConfigError when one of them cannot be there */
  constructor({ worker, port, handles }: Part, openVcpu: OpenVcpu, devices: readonly LoadedDevices[]) {
    this.#openVcpu = openVcpu;
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
  }

  run(): void {
    try {
      this.#scheduler.loop();
    } finally {
      this.#flush();
      for (const run of this.#runs) run.unmap();
      this.#port.close();
    }
  }

  /** A vCPU of this worker has been in the guest. */
  get hasRun(): boolean {
    return this.#scheduler.cpus.some((cpu) => cpu.hasRun);
  }

  #send(message: FromWorker): void {
    this.#outbox.send(message);
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
        this.#platform?.type(message.bytes, () => this.#send({ type: 'reply', reply: message.reply }));
        break;
      case 'inspect':
        return this.#inspect();
    }
    return undefined;
  }

  #addCpu(handle: CpuHandle, reset: ResetState): void {
    const { vcpuIndex, apicId, bootstrap } = handle;
    const { vcpu, run } = this.#openVcpu(handle);
    this.#runs.push(run);
    applyFirmwareState(vcpu);
    const machine = { shared: this.#shared, devices: this.#devices, reset };
    const parts: CpuParts = { vcpuIndex, apicId, bootstrap, vcpu, run, ...machine, ram: this.#ram, trace: this.#trace };
    this.#scheduler.addCpu(this.#system ? userCpu(parts, this.#system.apic(vcpuIndex)) : kernelCpu(parts));
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

const { loaded } = workerData as ThreadStart;
Atomics.store(loaded, 0, 1);
Atomics.notify(loaded, 0);
parentPort?.on('message', (message: ToThread) => {
  if (message.type === 'quit') parentPort?.close();
  else if (needsNoModules(message)) play(message, kvmVcpus(message.handles.runSize));
  else void loadAndPlay(message);
});

/** Whether the thread can start at once. */
function needsNoModules({ worker, handles }: Part): boolean {
  const { script, devices } = handles.config;
  return script === null && (worker !== 0 || devices.length === 0);
}

function play(part: Part, openVcpu: OpenVcpu, devices: readonly LoadedDevices[] = []): void {
  const machine = new MachineWorker(part, openVcpu, devices);
  machine.run();
  // A sandboxed thread can write no file.
  if (part.worker === 0 && machine.hasRun && part.handles.config.sandbox === 'off') keepCode();
  parentPort?.postMessage({ type: 'free' } satisfies FromThread);
}

async function loadAndPlay(part: Part): Promise<void> {
  const { script, devices } = part.handles.config;
  try {
    const loaded = part.worker === 0 ? await loadDevices(devices) : [];
    play(
      part,
      script === null ? kvmVcpus(part.handles.runSize) : await scriptedVcpus(script, part.handles.memory),
      loaded,
    );
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    refuse(part, error);
  }
}

/** What the user gave for this machine is wrong; the thread is as good as before. */
function refuse({ worker, port, handles }: Part, error: ConfigError): void {
  const shared = new SharedState(handles.maxVcpus, nativeHost, handles.shared);
  const outbox = new Outbox(shared, worker, port, handles.maxBacklog);
  outbox.send({ type: 'end', reason: 'monitor-error', status: Status.usage, detail: error.message });
  port.close();
  parentPort?.postMessage({ type: 'free' } satisfies FromThread);
}

async function scriptedVcpus(url: string, ram: Uint8Array): Promise<OpenVcpu> {
  const scripted = await import('./scripted-machine.ts');
  return scripted.scriptedVcpus(url, ram);
}

function kvmVcpus(runSize: number): OpenVcpu {
  return ({ fd }) => {
    const vcpu = Vcpu.fromFd(fd, runSize);
    return { vcpu, run: vcpu.mapRun() };
  };
}
