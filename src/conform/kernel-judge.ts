/**
 * The kernel as a judge, without a guest: its local APICs are set and read through ioctls alone.
 *
 * A VM costs 1 ms and a vCPU 0.3 ms here, a register page 8 us, so VMs are kept: one for each rig (a set of APIC IDs in an
 * order of creation, and the gates). A machine uses some of a rig's vCPUs; the others have their APIC disabled, and KVM
 * then passes over them. What no register page shows is put back by hand after each case (`#restore`).
 */
import { System, type Vcpu, type Vm } from '../kvm/index.ts';
import { makeVcpu, makeVm, x2apicFlags } from './host.ts';
import { isEventful } from './operations.ts';
import { changeState, clearState, PageTracker, putState, type StateDoor } from './page.ts';
import { rigKey } from './rigs.ts';
import {
  type Case,
  type HostOperation,
  type Judge,
  type MachineSpec,
  type Outcome,
  RESET_PAGE,
  startState,
} from './spec.ts';
import { apicBaseOf, dropEvents, vcpuDoor } from './vcpu-door.ts';

/** Rigs that are kept; each holds up to 40 vCPUs, which are descriptors and kernel memory. */
const RIGS_KEPT = 6;

interface RigCpu {
  readonly apicId: number;
  readonly vcpu: Vcpu;
  readonly door: StateDoor;
}

interface Rig {
  readonly key: string;
  readonly vm: Vm;
  readonly cpus: ReadonlyMap<number, RigCpu>;
}

export class KernelJudge implements Judge {
  readonly name = 'kernel';
  readonly #system = System.open();
  readonly #rigs: Rig[] = [];
  readonly #pages = new PageTracker(() => this.#nanos());
  #cpus: RigCpu[] = [];
  #began = 0n;
  /** Whether vCPUs may hold events that no register page shows. */
  #eventful = false;

  carryOut(candidate: Case): Outcome {
    const { machine, operations } = candidate;
    this.#restore();
    const rig = this.#rigFor(machine);
    this.#cpus = machine.apics.map(({ apicId }) => cpuOf(rig, apicId));
    this.#eventful = operations.some(isEventful);
    this.#began = process.hrtime.bigint();
    for (const [i, { door }] of this.#cpus.entries()) putState(door, machine.apics[i], machine.x2apicFormat, false);
    const doors = this.#cpus.map(({ door }) => door);
    const answers = this.#pages.run(candidate, doors, (operation) => this.#perform(rig.vm, operation));
    return { ...answers, cpus: [], events: [], nanos: this.#nanos() };
  }

  close(): void {
    for (const rig of this.#rigs) closeRig(rig);
    this.#rigs.length = 0;
    this.#system.close();
  }

  #nanos(): number {
    return Number(process.hrtime.bigint() - this.#began);
  }

  #perform(vm: Vm, operation: HostOperation): number {
    if (operation.kind === 'msi') return vm.signalMsi(operation.addressLow, operation.addressHigh, operation.data);
    const { vcpu, door } = this.#cpu(operation.cpu);
    switch (operation.kind) {
      case 'base':
        return door.setBase(operation.low, operation.high);
      case 'read-base':
        return Number(apicBaseOf(vcpu));
      case 'state':
        return changeState(door, operation.registers);
      case 'settle':
        return vcpu.getMpState() | (vcpu.getSregs().cs.selector & 0xff00);
      case 'events': {
        const { nmi, smi } = vcpu.getVcpuEvents();
        return nmi.pending | (smi.pending << 8);
      }
    }
  }

  #cpu(index: number): RigCpu {
    const cpu = this.#cpus[index];
    if (cpu === undefined) throw new Error(`the machine has no CPU ${index}`);
    return cpu;
  }

  /**
   * Leaves every vCPU of the last machine as a new rig's are: APIC disabled, page empty, nothing pending, ISR cache empty
   * (KVM updates PPR from the ISR cache of the state before; see rule `isrCache`).
   */
  #restore(): void {
    for (const { apicId, vcpu, door } of this.#cpus) {
      if (this.#eventful) {
        vcpu.getMpState(); // takes INIT and SIPI
        dropEvents(vcpu);
        vcpu.setMpState(startState(apicId));
        const sregs = vcpu.getSregs(); // a SIPI has moved CS
        vcpu.setSregs({ ...sregs, cs: { ...sregs.cs, selector: RESET_PAGE << 8, base: BigInt(RESET_PAGE) << 12n } });
      }
      clearState(door);
    }
    this.#cpus = [];
    this.#eventful = false;
  }

  #rigFor(machine: MachineSpec): Rig {
    const key = rigKey(machine);
    const found = this.#rigs.find((rig) => rig.key === key);
    if (found !== undefined) return found;
    if (this.#rigs.length >= RIGS_KEPT) {
      const oldest = this.#rigs.shift();
      if (oldest !== undefined) closeRig(oldest);
    }
    const vm = makeVm(this.#system, x2apicFlags(machine));
    const cpus = new Map<number, RigCpu>();
    for (const apicId of machine.rig) {
      const vcpu = makeVcpu(vm, apicId);
      const door = vcpuDoor(vcpu);
      clearState(door);
      cpus.set(apicId, { apicId, vcpu, door });
    }
    const rig = { key, vm, cpus };
    this.#rigs.push(rig);
    return rig;
  }
}

function cpuOf(rig: Rig, apicId: number): RigCpu {
  const cpu = rig.cpus.get(apicId);
  if (cpu === undefined) throw new Error(`the rig has no vCPU with APIC ID ${apicId}`);
  return cpu;
}

function closeRig(rig: Rig): void {
  for (const { vcpu } of rig.cpus.values()) vcpu.close();
  rig.vm.close();
}
