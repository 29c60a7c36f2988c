/**
 * One worker's run loop without KVM: real scheduler, exits, interrupts, local APICs and shared memory; the vCPUs are
 * scripts, the host a clock that stands still, the devices a record of what was asked of them.
 */
import { ApicSystem, type ApicSystemOptions } from '../../../src/apic/index.ts';
import { ExitReason } from '../../../src/kvm/constants.ts';
import { type Cpu, userCpu } from '../../../src/machine/loop/cpu.ts';
import { captureResetState, type ResetState } from '../../../src/machine/loop/cpu-state.ts';
import { Scheduler } from '../../../src/machine/loop/scheduler.ts';
import { ScriptedHost } from '../../../src/machine/loop/scripted-host.ts';
import { type ScriptedExit, type ScriptedStep, ScriptedVcpu } from '../../../src/machine/loop/scripted-vcpu.ts';
import type { DevicePort } from '../../../src/machine/shared/mailbox.ts';
import { Attention, MachineWord, SharedState, WorkerWord } from '../../../src/machine/shared/shared.ts';
import { wakeVcpu } from '../../../src/machine/shared/signals.ts';
import type { MachineTrace } from '../../../src/machine/trace.ts';

export const WORKER = 0;
/** The worker that messages of the outside come from. */
export const ELSEWHERE = 1;
export const EINTR = 4;
export const SPIV = 0xf0;
export const TPR = 0x80;
export const EOI = 0xb0;
export const LINT0 = 0x350;
export const LVT_TIMER = 0x320;
export const TMICT = 0x380;
const SOFTWARE_ENABLED = 0x1ff;

/** The guest executes HLT with interrupts on, or off. */
export const HLT: ScriptedExit = { exitReason: ExitReason.HLT, ifFlag: true };
export const HLT_IF_OFF: ScriptedExit = { exitReason: ExitReason.HLT, ifFlag: false };
/** An exit that leaves APIC and devices alone; interrupts on, or off. */
export const NOTHING: ScriptedExit = { exitReason: ExitReason.INTR, ifFlag: true };
export const NOTHING_IF_OFF: ScriptedExit = { exitReason: ExitReason.INTR, ifFlag: false };

/** The same for every scripted vCPU. */
let resetState: ResetState | undefined;

export interface LoopRigOptions {
  readonly apic?: ApicSystemOptions;
  readonly elsewhere?: ScriptedHost;
  /** Guest memory: what PV EOI needs. */
  readonly ram?: Uint8Array;
  readonly trace?: MachineTrace;
}

export class LoopRig {
  readonly peers = new Map<number, ScriptedHost>();
  readonly host = new ScriptedHost(100 + WORKER, this.peers);
  /** Another thread of the machine. */
  readonly otherHost = new ScriptedHost(100 + ELSEWHERE, this.peers);
  readonly shared: SharedState;
  /** The same memory, as the other thread has it. */
  readonly otherShared: SharedState;
  readonly system: ApicSystem;
  /** The same APICs, as the other thread has them. */
  readonly otherSystem: ApicSystem;
  readonly scheduler: Scheduler;
  readonly cpus: Cpu[] = [];
  readonly vcpus: ScriptedVcpu[] = [];
  /** What the devices were asked, the run's end, and the hooks that were called: in words, in order. */
  readonly said: string[] = [];
  /** What the devices answer to a read. */
  answer = 0;
  picVector = 0x20;
  /** The devices' next deadlines, in order. */
  deviceDeadlines: number[] = [];
  onControl: () => void = () => {};
  readonly devices: DevicePort = {
    read: (space, address, size) => {
      this.said.push(`${space} read ${address.toString(16)} ${size}`);
      return this.answer;
    },
    write: (space, address, size, value) =>
      void this.said.push(`${space} write ${address.toString(16)} ${size} ${value.toString(16)}`),
    endOfInterrupt: (vector) => void this.said.push(`eoi ${vector.toString(16)}`),
    acknowledgePic: () => {
      this.setPic(false);
      return this.picVector;
    },
  };

  /** @param scripts one vCPU each, all at home on this worker; their APICs are software-enabled in xAPIC mode, ID = index */
  constructor(scripts: readonly Iterable<ScriptedStep>[], options: LoopRigOptions = {}) {
    this.shared = new SharedState(64, this.host);
    this.otherShared = new SharedState(64, this.otherHost, this.shared.buffer);
    const { words } = this.shared;
    Atomics.store(words, MachineWord.workers, 2);
    for (const worker of [WORKER, ELSEWHERE]) {
      Atomics.store(words, this.shared.worker(worker, WorkerWord.threadId), 100 + worker);
    }
    this.system = new ApicSystem(
      { maxApics: scripts.length + 1, maxApicId: 0xff, ...options.apic },
      {
        nowNanos: () => this.host.now,
        wake: (vcpuIndex) => wakeVcpu(this.shared, vcpuIndex, WORKER),
        eoi: (_vcpuIndex, vector) => this.devices.endOfInterrupt(vector),
      },
    );
    this.otherSystem = ApicSystem.attach(this.system.memory, {
      nowNanos: () => this.host.now,
      wake: (vcpuIndex) => wakeVcpu(this.otherShared, vcpuIndex, ELSEWHERE),
    });
    this.scheduler = new Scheduler(this.shared, WORKER, {
      devices: this.devices,
      end: (reason, status, detail) => {
        this.said.push(`end ${reason} ${status}${detail === undefined ? '' : ` ${detail.split('\n')[0]}`}`);
        this.stop();
      },
      control: () => {
        this.said.push('control');
        this.onControl();
      },
      serveMailboxes: () => void this.said.push('mailboxes'),
      deviceDeadlineNanos: () => this.deviceDeadlines[0] ?? Number.POSITIVE_INFINITY,
      advanceDevices: (now) => {
        this.said.push(`devices at ${now}`);
        this.deviceDeadlines.shift();
      },
      idle: () => void this.said.push('idle'),
      haltedForGood: () => void this.said.push('halted for good'),
      firstRun: (cpu) => {
        cpu.hasRun = true;
        this.said.push(`first run ${cpu.vcpuIndex}`);
      },
    });
    for (const [vcpuIndex, script] of scripts.entries()) this.#addCpu(vcpuIndex, script, options);
    this.scheduler.start();
  }

  #addCpu(vcpuIndex: number, script: Iterable<ScriptedStep>, { ram, trace }: LoopRigOptions): void {
    const backend = new ScriptedVcpu(this.host, script);
    const apic = this.system.addApic(vcpuIndex, { bootstrap: true }); // so that each runs without a SIPI
    apic.writeMmio(SPIV, 4, SOFTWARE_ENABLED);
    apic.writeMmio(LINT0, 4, 0x10000); // masked
    this.shared.setHome(vcpuIndex, WORKER);
    const { vcpu, run } = backend;
    resetState ??= captureResetState(vcpu, []);
    const parts = { vcpuIndex, apicId: vcpuIndex, bootstrap: true, vcpu, run, reset: resetState };
    const asked = { ...(ram === undefined ? {} : { ram }), ...(trace === undefined ? {} : { trace }) };
    const cpu = userCpu({ ...parts, shared: this.shared, devices: this.devices, ...asked }, apic);
    this.vcpus.push(backend);
    this.cpus.push(cpu);
    this.scheduler.addCpu(cpu);
  }

  /** A fixed interrupt, an NMI or another message to one CPU, from another worker. */
  send(vector: number, { to = 0, deliveryMode = 0 } = {}): void {
    this.otherSystem.deliver({ destination: to, deliveryMode, vector });
  }

  setPic(level: boolean): void {
    Atomics.store(this.shared.words, MachineWord.picInterrupt, level ? 1 : 0);
  }

  /** Ends the loop, as seen from this thread: at its next look. */
  stop(): void {
    Atomics.or(this.shared.words, this.shared.worker(WORKER, WorkerWord.attention), Attention.stop);
  }

  /** A step of a script: the end of the run. */
  readonly end: ScriptedStep = () => {
    this.stop();
    return -EINTR;
  };

  loop(): this {
    this.scheduler.loop();
    return this;
  }
}

/** A step of a script: `action` while the guest runs, then `step`. */
export function meanwhile(action: () => void, step: ScriptedStep): ScriptedStep {
  return () => {
    action();
    return step;
  };
}
