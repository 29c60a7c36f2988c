/**
 * The public face: a virtual machine that is created, loaded, run and looked at. Runs on the main thread, which is the
 * control plane; guests run on worker threads (worker.ts), one for each host core. Of the command, a guest begins here
 * (opening.ts).
 */
import { EventEmitter } from 'node:events';
import { availableParallelism } from 'node:os';
import { type ApicMapSnapshot, ApicSystem, type LocalApicSnapshot } from '../apic/index.ts';
import { type BootState, RESET_PAGE, writeResetPage } from '../boot/index.ts';
import { textScreen } from '../devices/text-screen.ts';
import { hex } from '../hex.ts';
import { describeMachine } from '../inspect/report.ts';
import type { MachineSnapshot } from '../inspect/snapshot.ts';
import { type Verdict, why } from '../inspect/why.ts';
import { discardPages, native, sandbox } from '../kvm/index.ts';
import type { VmBackend } from './backend.ts';
import { BootImage, type BootOptions } from './boot-image.ts';
import { CpuTable } from './cpu-table.ts';
import { ConfigError, HostError } from './errors.ts';
import { makeSnapshot } from './inspection.ts';
import type { MachineEvents, RunResult } from './machine-events.ts';
import { nowMillis } from './millis.ts';
import { checkApicId, checkOptionShapes, checkOptions, type MachineConfig, type MachineOptions } from './options.ts';
import { SerialOutput, type WaitOptions } from './output.ts';
import { GuestMemory } from './shared/guest-memory.ts';
import type { FromWorker } from './shared/messages.ts';
import { nativeHost } from './shared/native-host.ts';
import { backlogFor } from './shared/outbox.ts';
import { MachineWord, SharedState } from './shared/shared.ts';
import { Status } from './status.ts';
import { Thread } from './thread.ts';
import type { HotplugTraceEvent } from './trace.ts';
import { VirtualMachine } from './virtual-machine.ts';
import { WorkerPool } from './worker-pool.ts';

/** How long a worker has to say what its vCPUs do. */
const INSPECT_MILLIS = 300;
const RESET_PAGE_SLOT = 1; // KVM's number; 0 is RAM

/**
 * A virtual machine: created, loaded, run once, looked at. It keeps the process alive only while it runs or does what it was
 * asked for. `await using` stops it at the end of a block; after `stop()`, or the end of its run, nothing of it is left but what
 * can still be looked at.
 *
 *     await using machine = await Machine.create({ cpus: [0, 0x23] });
 *     await machine.load(guestImage('hotplug'));
 *     const running = machine.run();
 *     await machine.waitFor(/ready/);
 *     await machine.hotplug(0x123);
 *     const { reason, status } = await running;
 */
export class Machine extends EventEmitter<MachineEvents> implements AsyncDisposable {
  /** What it was made of, checked, with nothing left out. */
  readonly config: MachineConfig;
  /** What the guest has written to its serial port, as text: the last mebi-character of it. */
  readonly output = new SerialOutput();
  readonly #vm: VmBackend;
  readonly #memory: GuestMemory;
  readonly #resetPage = new GuestMemory(RESET_PAGE.size);
  readonly #shared: SharedState;
  readonly #system: ApicSystem | null;
  readonly #cpus: CpuTable;
  readonly #pool: WorkerPool;
  #image: BootImage | undefined;
  #boot: BootState | undefined;
  /** How long `load` took: part of the time limit. */
  #loadMs = 0;
  #rebooting: Promise<void> | undefined;
  #run: Promise<RunResult> | undefined;
  #finish: (result: RunResult) => void = () => {};
  #result: RunResult | undefined;
  #closed: Promise<void> | undefined;
  #disposed = false;

  private constructor(config: MachineConfig, vm: VmBackend, pool: WorkerPool) {
    super();
    this.config = config;
    this.#vm = vm;
    this.#pool = pool;
    const { limits } = vm;
    this.#memory = new GuestMemory(config.memoryBytes);
    this.#shared = new SharedState(config.maxVcpus, nativeHost);
    this.#system =
      config.apic === 'user'
        ? new ApicSystem(
            {
              tscKhz: vm.tscKhz(),
              ...vm.apicCpuid(),
              ...config.apicOptions,
              maxApics: config.maxVcpus,
              maxApicId: limits.maxVcpuId - 1,
            },
            { nowNanos: native.nowNanos }, // for the current count in snapshots
          )
        : null;
    this.#cpus = new CpuTable(vm, this.#system, this.#shared, pool, config);
  }

  /**
   * Makes a machine: VM, memory, worker threads and the vCPUs that are there at start.
   * @param meanwhile what can be done while the threads start, such as `(machine) => machine.load(image)`; what it throws,
   *   `create` throws
   * @throws ConfigError for options that cannot work; KvmError, HostError or AddonError when the host says no (see
   *   `apiary doctor`); the reason of `options.signal` when that aborts meanwhile
   */
  static async create(
    options: MachineOptions = {},
    meanwhile: (machine: Machine) => Promise<unknown> = async () => {},
  ): Promise<Machine> {
    checkOptionShapes(options);
    const meantime = async (created: Machine): Promise<unknown> => meanwhile(created); // throws into its promise
    const { signal } = options;
    signal?.throwIfAborted();
    const vm = options.script === undefined ? VirtualMachine.open() : await scriptedVm();
    let pool: WorkerPool | undefined;
    let machine: Machine | undefined;
    try {
      const config = checkOptions(options, { ...vm.limits, cores: availableParallelism() });
      const { players = () => Thread.take() } = options;
      pool = new WorkerPool(firstWorkers(config), (worker) => players(worker, config));
      vm.create(config);
      machine = new Machine(config, vm, pool);
      machine.#endOn(signal);
      await Promise.all([machine.#start(), meantime(machine)]);
      signal?.throwIfAborted();
      pool.release();
      return machine;
    } catch (error) {
      const result = machine === undefined ? undefined : machine.#result;
      if (machine && result?.reason === 'timeout') return machine; // run() says so
      await (machine ? machine.stop() : pool?.stop());
      vm.close();
      signal?.throwIfAborted();
      throw failedToStart(result) ?? error;
    }
  }

  /**
   * Reads an image and puts it into guest memory: ELF (PVH or by entry point), multiboot, Linux, raw; any of them may be
   * packed by gzip. Its time counts for `timeoutMs`: when that passes the machine ends, and `run()` answers 'timeout'.
   * @param image a path, a file URL, or the bytes themselves; kept, since a reset loads it again
   * @returns what is odd about the image and did not keep it from starting, a line each
   * @throws ConfigError when it cannot be read; ImageError when it cannot be started
   */
  async load(
    image: string | URL | Uint8Array,
    options: BootOptions = {},
  ): Promise<{ readonly warnings: readonly string[] }> {
    this.#checkAlive();
    if (this.#run) throw new ConfigError('the machine runs already; load an image before run()');
    const ending = new AbortController();
    const onExit = (): void => ending.abort(new ConfigError('the machine ended while its image was read'));
    const timer = this.#startTimeLimit();
    const start = nowMillis();
    this.once('exit', onExit);
    try {
      this.#image = await BootImage.read(image, options, this.#memory.bytes.length, ending.signal);
    } catch (error) {
      if (this.#result?.reason === 'timeout') return { warnings: [] };
      throw error;
    } finally {
      this.off('exit', onExit);
      clearTimeout(timer);
      this.#loadMs += nowMillis() - start;
    }
    this.#boot = this.#image.load(this.#memory.bytes, this.config);
    return { warnings: this.#boot.warnings ?? [] };
  }

  /** Guest RAM from guest-physical address 0, shared with the running guest; zeros once the machine is disposed of. */
  get memory(): Uint8Array {
    return this.#memory.bytes;
  }

  /**
   * What the guest's VGA shows in text mode (80x25, from the CRT controller's start address in the page at 0xb8000), now or at
   * the end; '' where nothing was written.
   */
  screen(): string {
    return textScreen(this.#memory.bytes, Atomics.load(this.#shared.words, MachineWord.screenStart));
  }

  /** Starts the boot CPU. @returns how the run ended, once every thread and descriptor is gone */
  run(): Promise<RunResult> {
    if (this.#run) return this.#run;
    const boot = this.#boot;
    if (this.#result?.reason === 'timeout') return Promise.resolve(this.#result);
    if (this.#result) {
      const why = this.#result.detail === undefined ? '' : ` (${this.#result.detail})`;
      return Promise.reject(new ConfigError(`the machine has ended${why}; create a new one`));
    }
    if (!boot) return Promise.reject(new ConfigError('nothing to run: load an image first'));
    this.#run = new Promise((resolve) => {
      this.#finish = resolve;
    });
    this.#pool.hold();
    if (this.config.sandbox === 'off') this.#pool.start(boot);
    else void this.#startSandboxed(boot);
    const timer = this.#startTimeLimit();
    this.once('exit', () => clearTimeout(timer));
    return this.#run;
  }

  /**
   * Ends the machine from outside, if it has not ended. Resolves once every thread and descriptor is gone.
   * @param status what `run` answers with, 0-255
   */
  async stop(status = 0): Promise<void> {
    this.#end({ reason: 'stopped', status });
    await this.#closed;
  }

  /** `stop()`, for `await using`. What guest memory and the APICs held is gone after it: the host has it back at once. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    this.#disposed = true;
    discardPages(this.#memory.bytes.buffer);
    discardPages(this.#shared.buffer);
    if (this.#system) discardPages(this.#system.memory as SharedArrayBuffer);
  }

  /**
   * Short for `machine.output.waitFor`: resolves with the first match of `pattern` in what the guest has written to its serial
   * port, now or as soon as it is there.
   * @throws ConfigError when the machine ends first, or after `timeoutMs`: it quotes what the guest printed last
   */
  waitFor(pattern: RegExp | string, options: WaitOptions = {}): Promise<RegExpExecArray> {
    return this.output.waitFor(pattern, options);
  }

  /**
   * Hot-adds a CPU: it exists, its slot in the hotplug block says so and the guest has its event when this resolves.
   * @throws ConfigError when the CPU is there or cannot be
   */
  async hotplug(apicId: number): Promise<void> {
    this.#checkAlive();
    checkApicId(apicId, this.#vm.limits);
    this.#traceHotplug('plug', apicId);
    await this.#cpus.hotplug(apicId);
  }

  /** Asks the guest to give a CPU back. Resolves when it has been asked; 'ejected' tells that it agreed. */
  async unplug(apicId: number): Promise<void> {
    this.#checkAlive();
    this.#traceHotplug('unplug', apicId);
    await this.#cpus.unplug(apicId);
  }

  /** Presses the power button (ACPI fixed hardware). What the guest makes of it is its affair: an OS powers off. */
  async powerButton(): Promise<void> {
    this.#checkAlive();
    await this.#pool.request(0, { type: 'power-button' });
  }

  /** Types into the guest's serial port. Resolves when its input queue has taken everything. */
  async sendSerial(data: string | Uint8Array): Promise<void> {
    this.#checkAlive();
    const bytes = typeof data === 'string' ? new TextEncoder().encode(data) : data;
    await this.#pool.request(0, { type: 'serial-input', bytes });
  }

  /**
   * The local APIC of a CPU as it is now, or as it was at the end.
   * @throws ConfigError for an APIC ID that is not there, after disposal, and after the end under `apic: 'kernel'`: it went with
   *   its VM
   */
  lapic(apicId: number): LocalApicSnapshot {
    if (!this.#system) this.#checkAlive();
    this.#checkKept();
    return this.#cpus.lapic(apicId);
  }

  /**
   * The optimized APIC map as it is now, or as it was at the end.
   * @throws ConfigError after disposal, and under `apic: 'kernel'`: KVM does not show its own
   */
  apicMap(): ApicMapSnapshot {
    if (!this.#system) throw new ConfigError("KVM does not show its APIC map; use apic: 'user'");
    this.#checkKept();
    return this.#system.map();
  }

  /**
   * The machine as it is now: each vCPU, its local APIC and what it sent last, the map, the interrupt controllers. Of a
   * worker that is too busy to answer, the registers of its vCPUs are missing. `describeMachine` makes text of it.
   * @throws ConfigError after disposal
   */
  async inspect(): Promise<MachineSnapshot> {
    this.#checkKept();
    const told = this.#result ? [] : await this.#pool.inspect(INSPECT_MILLIS);
    return makeSnapshot({
      nowNanos: native.nowNanos(),
      use32bitIds: this.config.use32bitIds,
      system: this.#system,
      vcpus: this.#cpus.made(),
      told,
    });
  }

  /**
   * Why a CPU sleeps, or what it does.
   * @throws ConfigError for an APIC ID that no vCPU has, and after disposal
   */
  async why(apicId: number): Promise<Verdict> {
    const snapshot = await this.inspect();
    const cpu = snapshot.vcpus.find((each) => each.apicId === apicId);
    if (!cpu) throw new ConfigError(`there is no CPU with APIC ID ${hex(apicId)}`);
    return why(cpu, snapshot);
  }

  /** APIC IDs of the CPUs that are plugged in, in the order in which they were created. */
  get cpus(): number[] {
    return this.#cpus.present();
  }

  /** The run is over, or is being ended: nothing can be asked of the guest any more. */
  get ended(): boolean {
    return this.#result !== undefined;
  }

  /** The APIC ID of a vCPU as 'trace' events name it, plugged in or not; undefined when there is none. */
  apicIdOf(vcpuIndex: number): number | undefined {
    return this.#cpus.apicIdOfVcpu(vcpuIndex);
  }

  /** Ends the machine when what is left of `timeoutMs` has passed. @returns for clearTimeout */
  #startTimeLimit(): NodeJS.Timeout | undefined {
    const { timeoutMs } = this.config;
    if (!Number.isFinite(timeoutMs)) return undefined;
    return setTimeout(
      () => void this.#endExplained({ reason: 'timeout', status: Status.timeout }),
      timeoutMs - this.#loadMs,
    );
  }

  /** Every thread that there will be has loaded its program before it is sandboxed: no file can be opened after that. */
  async #startSandboxed(boot: BootState): Promise<void> {
    const { apic, hotpluggable, sandbox: kind } = this.config;
    try {
      await this.#pool.requestAll({ type: 'hold' });
      if (apic === 'kernel') await Thread.reserve(hotpluggable.length);
      if (kind === 'process') sandbox('every thread');
      else await this.#pool.sandboxThreads();
      if (!this.#result) this.#pool.start(boot);
    } catch (error) {
      this.#end({ reason: 'monitor-error', status: Status.host, detail: `sandbox: ${String(error)}` });
    }
  }

  #endOn(signal: AbortSignal | undefined): void {
    if (!signal) return;
    const aborted = (): void => this.#end({ reason: 'stopped', status: Status.interrupted });
    signal.addEventListener('abort', aborted, { once: true });
    this.once('exit', () => signal.removeEventListener('abort', aborted));
  }

  async #start(): Promise<void> {
    this.#vm.setMemory(this.#memory);
    writeResetPage(this.#resetPage.bytes);
    this.#vm.setMemory(this.#resetPage, RESET_PAGE_SLOT, RESET_PAGE.base);
    this.#pool.connect(
      this.#shared,
      {
        config: this.config,
        vmFd: this.#vm.fd,
        runSize: this.#vm.runSize,
        extendedDestinations: this.#vm.extendedDestinations,
        memory: this.#memory.bytes,
        apicMemory: (this.#system?.memory as SharedArrayBuffer | undefined) ?? null,
        shared: this.#shared.buffer,
        maxVcpus: this.#shared.maxVcpus,
        maxBacklog: backlogFor(this.config.apic === 'kernel' ? this.#shared.maxVcpus : this.config.threads),
      },
      (message) => this.#receive(message),
      (detail) => this.#end({ reason: 'monitor-error', status: Status.bug, detail }),
    );
    await this.#cpus.addBootCpus();
  }

  /** @returns a promise when a listener has not dealt with it yet */
  #receive(message: FromWorker): Promise<unknown> | undefined {
    switch (message.type) {
      case 'serial':
        return this.#emitOutput('serial', message.bytes);
      case 'debug-output':
        return this.#emitOutput('debugOutput', message.bytes);
      case 'end': {
        const { reason, status, detail } = message;
        const result = { reason, status, ...(detail === undefined ? {} : { detail }) };
        if (reason === 'internal-error') void this.#endExplained(result);
        else this.#end(result);
        break;
      }
      case 'ejected':
        this.#cpus.ejected(message.slot).then(
          (apicId) => {
            this.#traceHotplug('ejected', apicId);
            this.emit('ejected', apicId);
          },
          (error: unknown) => this.#end({ reason: 'monitor-error', status: Status.bug, detail: String(error) }),
        );
        break;
      case 'ost':
        this.#traceHotplug('ost', this.#cpus.apicIdOfSlot(message.slot));
        this.emit('ost', this.#cpus.apicIdOfSlot(message.slot), message.event, message.status);
        break;
      case 'bios-call':
        this.emit('biosCall', message.vector, message.ax);
        break;
      case 'first-run':
        this.emit('firstRun', message.apicId, message.nanos);
        break;
      case 'trace':
        for (const event of message.events) this.emit('trace', event);
        break;
      case 'reboot':
        this.#rebooting ??= this.#reboot().finally(() => {
          this.#rebooting = undefined;
        });
        break;
      case 'reply':
        break;
    }
    return undefined;
  }

  /** A listener may answer with a promise: the guest's next output waits for it, and the guest with it. */
  #emitOutput(event: 'serial' | 'debugOutput', bytes: Uint8Array): Promise<unknown> | undefined {
    const chunk = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    if (event === 'serial') this.output.push(chunk);
    const answers: unknown[] = this.rawListeners(event).map((listener) => listener.call(this, chunk));
    const promises = answers.filter((answer) => answer instanceof Promise);
    return promises.length > 0 ? Promise.all(promises) : undefined;
  }

  /** Every vCPU stands still before the first is reset, and all are reset before the first runs. */
  async #reboot(): Promise<void> {
    try {
      await this.#pool.requestAll({ type: 'hold' });
      await this.#pool.requestAll({ type: 'power-up' });
      const boot = this.#image?.load(this.#memory.bytes, this.config);
      if (boot) this.#pool.start(boot);
    } catch (error) {
      this.#end({ reason: 'monitor-error', status: Status.bug, detail: `reset: ${String(error)}` });
    }
  }

  #traceHotplug(what: HotplugTraceEvent['what'], apicId: number): void {
    if (this.config.trace) this.emit('trace', { kind: 'hotplug', what, apicId, nanos: native.nowNanos() });
  }

  /** Ends a run that the guest did not end, and says what each CPU was doing. */
  async #endExplained(result: RunResult): Promise<void> {
    const report = this.#run ? describeMachine(await this.inspect()) : [];
    const detail = [...(result.detail === undefined ? [] : [result.detail]), ...report].join('\n');
    this.#end({ ...result, ...(detail === '' ? {} : { detail }) });
  }

  #end(result: RunResult): void {
    if (this.#result) return;
    this.#result = result;
    this.#closed = this.#close(result);
  }

  async #close(result: RunResult): Promise<void> {
    await this.#pool.stop();
    this.#vm.close();
    this.output.end();
    this.#finish(result);
    this.emit('exit', result);
  }

  #checkKept(): void {
    if (this.#disposed) throw new ConfigError('the machine has been disposed of; look at it before that');
  }

  #checkAlive(): void {
    if (this.#result) throw new ConfigError('the machine has ended; create a new one');
  }
}

/** Threads to start with: one that no vCPU lives on yet would only slow the start. More come with the vCPUs. */
function firstWorkers({ apic, threads, cpus, hotpluggable }: MachineConfig): number {
  return apic === 'kernel' ? 1 : Math.min(threads, cpus.length + hotpluggable.length);
}

/** Why a machine ended before it was there: a worker said so. */
function failedToStart(result: RunResult | undefined): Error | undefined {
  if (result?.detail === undefined) return undefined;
  return result.status === Status.usage ? new ConfigError(result.detail) : new HostError(result.detail);
}

async function scriptedVm(): Promise<VmBackend> {
  const { ScriptedVm } = await import('./scripted-machine.ts');
  return new ScriptedVm();
}
