/**
 * KVM's in-kernel APICs under guest/oplist.S, all on this thread: only the vCPU whose turn it is runs, so a list needs no
 * scheduler and nothing happens at the same time. (guest-machine.ts runs the same guest on our monitor.)
 *
 * Each turn ends with an operation that the driver puts in, a read of an address where nothing is: the exit says that
 * this CPU's operations are done. A few instructions later, bounded by a timer, its position is written down.
 */
import { readFileSync } from 'node:fs';
import { type BootState, loadImage } from '../boot/index.ts';
import { CpuHotplug } from '../devices/cpu-hotplug.ts';
import { ExitReason, type KvmRun, MpState, native, System, type Vcpu, type Vm } from '../kvm/index.ts';
import { applyBootState } from '../machine/cpu-state.ts';
import { cpuidFor, cpuModel } from '../machine/cpuid.ts';
import { GuestMemory } from '../machine/memory.ts';
import { makeVm, x2apicFlags } from './host.ts';
import {
  Dialogue,
  DOORBELL,
  GUEST_MEMORY,
  type GuestJudge,
  type GuestOperation,
  type GuestRun,
  KIND,
  OPLIST_IMAGE,
} from './oplist.ts';
import type { Gates } from './spec.ts';

const HOTPLUG_PORT = 0xcd8;
const HOTPLUG_LENGTH = 12;
const LINE_STATUS = 0x3fd;
const TRANSMITTER_EMPTY = 0x60;
const TSS_ADDRESS = 0xfffbd000;
const IDENTITY_MAP_ADDRESS = 0xfffbc000;
/** Where nothing is; identity-mapped by the guest, uncached. */
const NOWHERE = 0xd0000000;
const EINTR = 4;
const EAGAIN = 11;
const SLICE_NANOS = 200_000;
/** From the end-of-turn exit to the position's store are some 20 instructions, 13 us when a software KVM interprets them. */
const AFTERMATH_NANOS = 40_000;
const STUCK_MILLIS = 10_000;

interface Cpu {
  readonly vcpu: Vcpu;
  readonly run: KvmRun;
}

export interface GuestMachine extends Gates {
  /** APIC IDs, the boot CPU (ID 0) first. */
  readonly cpus: readonly number[];
}

export class KernelGuest implements GuestJudge {
  readonly name = 'kernel';
  /** Guest TSC ticks in a microsecond. */
  readonly ticksPerMicro: number;
  readonly #system = System.open();
  readonly #vm: Vm;
  readonly #memory = new GuestMemory(GUEST_MEMORY);
  readonly #dialogue: Dialogue;
  readonly #cpus: Cpu[] = [];
  readonly #hotplug = new CpuHotplug({ interrupt: () => {}, onEject: () => {} });
  #sequence = 0;
  #doorbells = 0;
  #turnOver = false;

  /** Boots the guest. @throws KvmError, or Error when the guest does not come up */
  constructor(machine: GuestMachine) {
    this.#vm = makeVm(this.#system, x2apicFlags(machine));
    this.#vm.setTssAddr(TSS_ADDRESS);
    this.#vm.setIdentityMapAddr(IDENTITY_MAP_ADDRESS);
    const tscKhz = this.#vm.getTscKhz();
    this.ticksPerMicro = Math.round(tscKhz / 1000);
    this.#vm.setUserMemoryRegion(0, 0, this.#memory.bytes.length, this.#memory.hostAddress);
    const model = cpuModel(this.#system.getSupportedCpuid(), 'host', { userApic: false, tscKhz });
    for (const apicId of machine.cpus) {
      const vcpu = this.#vm.createVcpu(apicId);
      vcpu.setCpuid2(cpuidFor(model, apicId, Math.max(255, ...machine.cpus)));
      this.#cpus.push({ vcpu, run: vcpu.mapRun() });
      this.#hotplug.addSlot(apicId, true);
    }
    this.#dialogue = new Dialogue(this.#memory.bytes);
    this.#boot(loadImage(readFileSync(OPLIST_IMAGE), this.#memory.bytes, { name: OPLIST_IMAGE }));
  }

  /** The register page of a CPU. */
  page(cpu: number, into: Uint8Array): void {
    this.#cpu(cpu).vcpu.getLapic(into);
  }

  run(operations: readonly GuestOperation[]): GuestRun {
    const { list, at } = withTurns(operations);
    this.#dialogue.post(++this.#sequence, list, this.ticksPerMicro);
    const limit = Date.now() + STUCK_MILLIS;
    this.#runTurn(0, 0);
    while (this.#dialogue.finished !== this.#sequence) {
      const { position } = this.#dialogue;
      const cpu = list[position]?.cpu ?? 0;
      this.#runTurn(cpu, position);
      if (this.#dialogue.position === position && cpu !== 0) this.#runTurn(0, position);
      if (Date.now() > limit) throw new Error(`the kernel's guest is stuck at operation ${position} of CPU ${cpu}`);
    }
    const { outcomes, taken } = this.#dialogue.collect(list.length);
    return {
      outcomes: at.map((i) => outcomes[i] ?? { low: 0, high: 0, fault: 0, interrupts: 0 }),
      taken: taken.map((each) =>
        each.map(({ vector, position }) => ({ vector, position: originalPosition(at, position) })),
      ),
    };
  }

  close(): void {
    native.armTimer(Number.POSITIVE_INFINITY);
    for (const { vcpu, run } of this.#cpus) {
      run.unmap();
      vcpu.close();
    }
    this.#vm.close();
    this.#system.close();
  }

  #cpu(index: number): Cpu {
    const cpu = this.#cpus[index];
    if (cpu === undefined) throw new Error(`there is no CPU ${index}`);
    return cpu;
  }

  #boot(state: BootState): void {
    applyBootState(this.#cpu(0).vcpu, state);
    const limit = Date.now() + STUCK_MILLIS;
    while (this.#doorbells === 0) {
      for (let i = 0; i < this.#cpus.length && this.#doorbells === 0; i++) {
        if (this.#cpu(i).vcpu.getMpState() === MpState.RUNNABLE || i === 0) this.#slice(i, 1_000_000);
      }
      if (Date.now() > limit) throw new Error('the guest of layer 2 does not come up');
    }
    if (this.#dialogue.cpus !== this.#cpus.length) throw new Error(`the guest found ${this.#dialogue.cpus} CPUs`);
  }

  /** Runs a CPU until its turn is over, or it needs another CPU, or a slice of time has passed. */
  #runTurn(cpu: number, position: number): void {
    this.#turnOver = false;
    const rings = this.#doorbells;
    const end = native.nowNanos() + SLICE_NANOS;
    while (!this.#turnOver && this.#doorbells === rings) {
      if (!this.#step(cpu, end)) break;
    }
    if (!this.#turnOver) return;
    const aftermath = native.nowNanos() + AFTERMATH_NANOS;
    while (this.#doorbells === rings && this.#dialogue.position <= position && this.#step(cpu, aftermath));
    while (this.#doorbells === rings && this.#step(cpu, aftermath));
  }

  #slice(cpu: number, nanos: number): void {
    const end = native.nowNanos() + nanos;
    const rings = this.#doorbells;
    while (this.#doorbells === rings && this.#step(cpu, end));
  }

  /** One KVM_RUN. False when the time is up, or the CPU waits for a SIPI. */
  #step(index: number, endNanos: number): boolean {
    const { run, vcpu } = this.#cpu(index);
    native.armTimer(endNanos);
    const status = run.run();
    if (status === -EINTR || status === -EAGAIN) return native.nowNanos() < endNanos;
    if (status < 0) throw new Error(`KVM_RUN of CPU ${index} failed with errno ${-status}`);
    switch (run.exitReason) {
      case ExitReason.IO:
        this.#io(run);
        return true;
      case ExitReason.MMIO:
        if (run.mmioAddress === NOWHERE) this.#turnOver = true;
        if (!run.mmioIsWrite) run.setMmioValue(0xffffffff, 0xffffffff);
        return true;
      case ExitReason.INTR:
        return native.nowNanos() < endNanos;
      case ExitReason.IOAPIC_EOI:
        return true;
      default:
        throw new Error(
          `CPU ${index} of the kernel's guest: ${run.describe()} at rip 0x${vcpu.getRegs().rip.toString(16)}`,
        );
    }
  }

  #io(run: KvmRun): void {
    const { ioPort: port, ioSize: size } = run;
    const isHotplug = port >= HOTPLUG_PORT && port < HOTPLUG_PORT + HOTPLUG_LENGTH;
    if (run.ioIsOut) {
      const value = run.ioValue();
      if (port === DOORBELL) this.#doorbells++;
      else if (isHotplug) this.#hotplug.write(0, port - HOTPLUG_PORT, size, value);
    } else {
      const value = isHotplug ? this.#hotplug.read(0, port - HOTPLUG_PORT, size) : 0xffffffff;
      run.setIoValue(0, port === LINE_STATUS ? TRANSMITTER_EMPTY : value);
    }
  }
}

/** The list with an end-of-turn operation after each CPU's stretch, and where the operations are in it. */
function withTurns(operations: readonly GuestOperation[]): { list: GuestOperation[]; at: number[] } {
  const list: GuestOperation[] = [endOfTurn(0)];
  const at: number[] = [];
  for (const [i, operation] of operations.entries()) {
    at.push(list.length);
    list.push(operation);
    if (operations[i + 1]?.cpu !== operation.cpu) list.push(endOfTurn(operation.cpu));
  }
  return { list, at };
}

const endOfTurn = (cpu: number): GuestOperation => ({
  kind: KIND.MMIO_READ,
  cpu,
  size: 4,
  address: NOWHERE,
  low: 0,
  high: 0,
});

/** Position in the list without turns: the operation there, or the last before it. */
function originalPosition(at: readonly number[], position: number): number {
  let original = at.length - 1;
  while (original > 0 && (at[original] ?? 0) > position) original--;
  return original;
}
