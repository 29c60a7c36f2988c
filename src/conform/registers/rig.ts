/**
 * A machine that carries out lists of register operations, on the main thread and one vCPU at a time, so that a list has
 * one outcome: what `apiary run` does on its workers is done here by hand, with the same parts (VirtualMachine, handleExit,
 * and UserInterrupts or KernelInterrupts). Whose APICs they are is left to the two judges built on it.
 *
 * The guest boots once for each rig. CPUs are started by copying the boot CPU's system registers, and again after an INIT or
 * a SIPI: what these did is looked at, then the CPU goes back to its loop. INIT of the boot CPU sets it off at the reset
 * vector, where a page of ROM tells us.
 */

import { STATE_BYTES } from '../../apic/index.ts';
import { ExitReason, KvmError, native, type Sregs } from '../../kvm/index.ts';
import type { InterruptRouter } from '../../machine/board/interrupt-router.ts';
import { Platform } from '../../machine/board/platform.ts';
import { BootImage } from '../../machine/boot-image.ts';
import { HostError } from '../../machine/errors.ts';
import type { Cpu, CpuParts } from '../../machine/loop/cpu.ts';
import {
  applyBootState,
  captureResetState,
  completeExit,
  IA32_TSC,
  type ResetState,
} from '../../machine/loop/cpu-state.ts';
import { enterGuest, Left } from '../../machine/loop/enter.ts';
import { type EndMachine, handleExit } from '../../machine/loop/exits.ts';
import { describeFailure } from '../../machine/loop/failure.ts';
import { checkOptions, type MachineConfig } from '../../machine/options.ts';
import { GuestMemory } from '../../machine/shared/guest-memory.ts';
import { nativeHost } from '../../machine/shared/native-host.ts';
import { SharedState } from '../../machine/shared/shared.ts';
import { VirtualMachine } from '../../machine/virtual-machine.ts';
import { PACKAGE_ROOT } from '../../package-root.ts';
import { clearState, putState, type StateDoor } from '../host-machine.ts';
import { cpuOf } from '../kernel-judge.ts';
import { byName, isEventful, maySendNmi, mayStartCpus } from '../operations.ts';
import {
  type ApicSpec,
  type Case,
  type GuestOperation,
  isGuestOperation,
  type Judge,
  type Outcome,
  type RigSpec,
  SKIPPED,
} from '../spec.ts';
import { dropEvents } from '../vcpu-door.ts';
import { DOORBELL, OPLIST_MEMORY_BYTES, OplistMemory, recordEnd, TURN } from './oplist.ts';

const OPLIST_IMAGE = new URL('guest/build/oplist.elf', PACKAGE_ROOT).pathname;
const RESET_PORT = 0xf2;
const RESET_PAGE = 0xfffff000;
const RESET_VECTOR = 0xfff0;
/** out %al, $RESET_PORT; and once more if it is run on. */
const RESET_CODE = [0xe6, RESET_PORT, 0xeb, 0xfc];
const SMM_ENTRY = 0x38000;
const RSM = [0x0f, 0xaa];
/** A list takes milliseconds; a guest that is silent for so long is lost. */
const LOST_NANOS = 60e9;
/** How soon to look whether a vCPU sits in KVM_RUN waiting for a SIPI, after an operation that may be its own INIT. */
const INIT_CHECK_NANOS = 3e6;
/** More turns round its loop than a CPU needs to take two NMIs. */
const NMI_TURNS = 100;
const RFLAGS_FIXED = 2n;

/** Why a CPU has stopped running: its word, or that it waits for a SIPI. */
type Stop = 'turn' | 'boot' | 'reset' | 'waiting';
const STOPS: ReadonlyMap<number, Stop> = new Map([
  [TURN, 'turn'],
  [DOORBELL, 'boot'],
  [RESET_PORT, 'reset'],
]);

/** What a guest that got lost may ask its devices for. */
const ENDS: ReadonlySet<string> = new Set(['reset', 'restart', 'power-off']);

/** One image for all rigs of a process. */
let image: Promise<BootImage> | undefined;

export interface RigCpu {
  readonly cpu: Cpu;
  readonly door: StateDoor;
  /** Carries out operations; false: it waits for a SIPI. */
  runs: boolean;
  /** NMIs may be waiting for it. */
  nmis: boolean;
}

export abstract class GuestRig implements Judge {
  abstract readonly name: string;
  protected readonly config: MachineConfig;
  protected readonly vm: VirtualMachine;
  protected readonly memory: GuestMemory;
  readonly #reset: GuestMemory;
  readonly #oplist: OplistMemory;
  readonly #shared: SharedState;
  #resetState: ResetState | undefined;
  #template: Sregs | undefined;
  #cpus: RigCpu[] = [];
  #byId = new Map<number, RigCpu>();
  #events: string[] = [];
  #ended: Error | undefined;
  #eventful = true;
  /** The guest touches none but the debug exit and the serial port, when it is lost. */
  protected abstract readonly devices: Platform;

  protected constructor(spec: RigSpec, apic: 'user' | 'kernel') {
    this.vm = VirtualMachine.open();
    this.config = checkOptions(
      {
        apic,
        cpus: spec.rig,
        memory: OPLIST_MEMORY_BYTES,
        cpu: 'host,+tsc_deadline_timer',
        x2apicApi: { use32bitIds: spec.x2apicFormat, disableBroadcastQuirk: spec.broadcastQuirkDisabled },
      },
      { ...this.vm.limits, cores: 1 },
    );
    this.vm.create(this.config);
    this.memory = new GuestMemory(this.config.memoryBytes);
    this.vm.setMemory(this.memory);
    this.#reset = new GuestMemory(0x1000);
    this.#reset.bytes.set(RESET_CODE, RESET_VECTOR & 0xfff);
    this.vm.setMemory(this.#reset, 1, RESET_PAGE);
    this.#oplist = new OplistMemory(this.memory.bytes);
    this.#shared = new SharedState(spec.rig.length, nativeHost);
    native.threadId();
  }

  /** Runs the guest up to its first doorbell. */
  protected async boot(): Promise<void> {
    image ??= BootImage.read(OPLIST_IMAGE, {}, OPLIST_MEMORY_BYTES);
    const loaded = (await image).load(this.memory.bytes, this.config);
    this.memory.bytes.set(RSM, SMM_ENTRY);
    for (const [index, apicId] of this.config.cpus.entries()) {
      const vcpu = this.vm.createVcpu(apicId);
      const run = vcpu.mapRun();
      this.#resetState ??= captureResetState(vcpu, this.vm.savableMsrs);
      const identity = { vcpuIndex: index, apicId, bootstrap: index === 0 };
      const parts = { vcpu, run, shared: this.#shared, devices: this.devices, reset: this.#resetState };
      const made = { ...this.makeCpu({ ...identity, ...parts }), runs: true, nmis: false };
      this.#byId.set(apicId, made);
      this.#cpus.push(made);
    }
    const [first] = this.#cpus;
    applyBootState(first.cpu.vcpu, loaded);
    if (this.#step(first, LOST_NANOS) !== 'boot') throw new Error('the guest did not get to its doorbell');
    this.#template = first.cpu.vcpu.getSregs();
    for (const each of this.#byId.values()) {
      each.cpu.vcpu.setMsrs([{ index: IA32_TSC, value: 0n }]); // so that a deadline means the same on every host
      this.#start(each);
    }
  }

  // What differs between the two kinds of APIC

  protected abstract makeCpu(parts: CpuParts): Pick<RigCpu, 'cpu' | 'door'>;
  /** Out of wait-for-SIPI. Its registers may change. */
  protected abstract wakeUp(cpu: Cpu): void;
  /** Drops what waits in its APIC. */
  protected abstract calm(cpu: Cpu): void;
  /** Takes INIT and SIPI that are pending. @returns whether it may run */
  protected abstract settle(cpu: Cpu): boolean;
  /** Whether its APIC has asked for a look since the last call, as the scheduler's request word tells. */
  protected abstract takeWake(cpu: Cpu): boolean;
  /** May INIT or SIPI be pending for it? */
  protected abstract hasEvents(cpu: Cpu): boolean;
  /** After KVM_RUN was interrupted: does the vCPU wait inside it? */
  protected abstract waitsForSipi(cpu: Cpu): boolean;

  /** Sees the state of an APIC at the end of a list, and may set it right. */
  protected look(_page: Uint8Array): void {}

  protected makeDevices(router: InterruptRouter): Platform {
    const said: string[] = [];
    const platform = new Platform(this.config, this.memory.bytes, {
      router,
      extendedDestinations: this.config.use32bitIds,
      nowNanos: native.nowNanos,
      mainIsIdle: () => true,
      screenMoved: () => {},
      report: (event) => {
        if (event.type === 'serial') said.push(Buffer.from(event.bytes).toString());
        if (event.type !== 'debug-exit' && !ENDS.has(event.type)) return;
        platform.flushConsole();
        const status = event.type === 'debug-exit' ? `, status ${event.status}` : '';
        throw new Error(`the guest ended: ${event.type}${status}. It said: ${said.join('')}`);
      },
    });
    return platform;
  }

  /** What is half done is completed; then an empty state, then the given one. */
  #putState({ cpu, door }: RigCpu, spec: ApicSpec | undefined): void {
    completeExit(cpu.run);
    this.calm(cpu);
    clearState(door);
    if (spec !== undefined) putState(door, spec, this.config.use32bitIds, true);
  }

  // Lists

  carryOut({ machine, operations: all }: Case): Outcome {
    const operations = all.filter(isGuestOperation);
    const began = native.nowNanos();
    this.#build(machine.apics);
    this.#events = [];
    const oplist = this.#oplist;
    oplist.putList(operations, this.#cpus.length);
    for (let from = 0; from < operations.length; ) {
      const stop = operations.findIndex((each, i) => i >= from && (mayStartCpus(each) || maySendNmi(each)));
      const to = stop < 0 ? operations.length : stop + 1;
      this.#carryOutUpTo(to, operations);
      const last = operations[to - 1];
      if (last !== undefined && mayStartCpus(last)) this.#settleAll(stop);
      if (last !== undefined && maySendNmi(last)) {
        for (const each of this.#cpus) each.nmis = true;
        this.#takeNmis(this.#cpus[last.cpu], stop);
        oplist.position = to;
      }
      from = to;
    }
    if (operations.some(maySendNmi)) {
      for (const each of this.#cpus) this.#takeNmis(each, operations.length);
    }
    oplist.live = 0;
    this.#eventful = operations.some(isEventful);
    return {
      start: [],
      nanos: native.nowNanos() - began,
      results: operations.map((_, i) => oplist.result(i)),
      events: this.#events.toSorted(byName),
      cpus: this.#cpus.map(({ door }, i) => {
        const base = door.apicBase();
        const page = door.getState(new Uint8Array(STATE_BYTES));
        this.look(page);
        return { taken: oplist.taken(i), page, baseLow: Number(base & 0xffffffffn), baseHigh: Number(base >> 32n) };
      }),
    };
  }

  close(): void {
    for (const each of this.#byId.values()) each.cpu.run.unmap();
    this.vm.close();
  }

  #carryOutUpTo(end: number, operations: readonly GuestOperation[]): void {
    const oplist = this.#oplist;
    for (let position = oplist.position; position < end; position = oplist.position) {
      const operation = operations[position];
      const each = this.#cpus[operation.cpu];
      if (!each.runs) {
        oplist.putResult(position, SKIPPED);
        oplist.position = position + 1;
        continue;
      }
      if (each.nmis) this.#takeNmis(each, position);
      oplist.live = end;
      const patience = operations.slice(position, end).some(mayStartCpus) ? INIT_CHECK_NANOS : LOST_NANOS;
      const stop = this.#step(each, patience);
      if (stop === 'turn') {
        if (oplist.position === position) throw new Error('the guest passes its turn on');
        continue;
      }
      // Its own INIT: in the middle of the operation, or soon after.
      if (oplist.position < end) oplist.putResult(end - 1, 0);
      if (stop === 'waiting') each.runs = false;
      else this.#start(each);
      this.#events.push(`cpu ${operation.cpu}: INIT by operation ${end}`);
      oplist.position = end;
    }
  }

  /**
   * Lets a CPU go round its loop while the list stands still at `position`: a KVM that interprets ring 0 in one go injects
   * only at entries, and a second NMI only after the first one's IRET.
   */
  #takeNmis(each: RigCpu, position: number): void {
    each.nmis = false;
    if (!each.runs) return;
    this.#oplist.live = position;
    this.#oplist.position = position;
    for (let turn = 0; turn < NMI_TURNS; turn++) {
      this.#step(each, LOST_NANOS);
      const { pending, injected, masked } = each.cpu.vcpu.getVcpuEvents().nmi;
      if ((pending | injected | masked) === 0) return;
    }
  }

  #settleAll(position: number): void {
    for (const [i, each] of this.#cpus.entries()) {
      const { vcpu, run } = each.cpu;
      if (!this.hasEvents(each.cpu)) continue;
      completeExit(run);
      const ran = each.runs;
      each.runs = this.settle(each.cpu);
      const started = !ran && each.runs;
      const reset = ran && (!each.runs || vcpu.getRegs().rip === BigInt(RESET_VECTOR));
      const what = started ? `SIPI ${vcpu.getSregs().cs.selector >> 8}` : 'INIT';
      if (started || reset) this.#events.push(`cpu ${i}: ${what} by operation ${position + 1}`);
      if (each.runs && (started || reset)) this.#start(each);
    }
  }

  #build(apics: readonly ApicSpec[]): void {
    const before = this.#cpus;
    this.#cpus = apics.map(({ apicId }) => cpuOf(this.#byId, apicId));
    for (const each of before) {
      if (this.#eventful) {
        completeExit(each.cpu.run);
        each.cpu.interrupts.eventQueued(); // what the last run said of them is out of date
        dropEvents(each.cpu.vcpu);
      }
      if (!this.#cpus.includes(each)) this.#putState(each, undefined);
    }
    for (const [i, each] of this.#cpus.entries()) {
      if (!each.runs || before[i] !== each) this.#start(each); // first, since it sets CR8, and so clears TPR's low bits
      this.#putState(each, apics[i]);
      each.runs = true;
      each.nmis = false;
    }
  }

  /** Sends a CPU to its loop, as whichever CPU of the machine it is now. */
  #start(each: RigCpu): void {
    const template = this.#template;
    if (template === undefined) throw new Error('no guest was booted');
    const { vcpu, run, interrupts } = each.cpu;
    completeExit(run);
    interrupts.eventQueued();
    this.wakeUp(each.cpu);
    const record = this.#oplist.putRecord(Math.max(0, this.#cpus.indexOf(each)), each.cpu.apicId);
    const { apicBase, cr8 } = vcpu.getSregs();
    vcpu.setSregs({ ...template, gs: { ...template.gs, base: BigInt(record) }, apicBase, cr8 });
    vcpu.setRegs({
      rip: BigInt(this.#oplist.entry),
      rdi: BigInt(record),
      rsp: BigInt(recordEnd(record)),
      rflags: RFLAGS_FIXED,
    });
  }

  /** Runs a CPU until it has nothing to do. */
  #step({ cpu }: RigCpu, patienceNanos: number): Stop {
    const { run, interrupts } = cpu;
    const giveUp = native.nowNanos() + LOST_NANOS;
    let look = native.nowNanos() + patienceNanos;
    native.armTimer(look);
    for (;;) {
      const deadline = this.#expireTimer(cpu);
      if (deadline < look) native.armTimer(deadline);
      if (!interrupts.prepare(this.takeWake(cpu))) return 'waiting';
      const left = enterGuest(cpu);
      if (left === Left.exit) {
        this.#expireTimer(cpu); // before what the guest did later
        const stop = run.exitReason === ExitReason.IO && run.ioIsOut ? STOPS.get(run.ioPort) : undefined;
        if (stop !== undefined) return stop;
        handleExit(cpu, this.devices, this.#end);
        if (this.#ended !== undefined) throw this.#ended;
        continue;
      }
      if (left !== Left.interrupted) throw new HostError(describeFailure(cpu, new KvmError('KVM_RUN', -left).message));
      const now = native.nowNanos();
      if (now < look) continue;
      if (this.waitsForSipi(cpu)) return 'waiting';
      if (now > giveUp) throw new Error(describeFailure(cpu, 'the guest is lost'));
      look = now + patienceNanos;
      native.armTimer(look);
    }
  }

  /** @returns when the timer wants to be looked at next */
  #expireTimer({ apic }: Cpu): number {
    if (apic === null) return Number.POSITIVE_INFINITY;
    const now = native.nowNanos();
    if (apic.timerDeadlineNanos() <= now) apic.expireTimer(now);
    return apic.timerDeadlineNanos();
  }

  readonly #end: EndMachine = (reason, status, detail) => {
    const text = `the guest ended: ${reason}, status ${status}. ${detail ?? ''}`;
    this.#ended = reason === 'internal-error' ? new HostError(text) : new Error(text); // KVM gave up, or the guest got lost
  };
}
