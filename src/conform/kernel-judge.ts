/**
 * The kernel as a judge, without a guest: its local APICs are set and read through ioctls alone.
 *
 * A VM costs 1 ms and a vCPU 0.3 ms here, a register page 8 us, so VMs are kept: one for each rig (a set of APIC IDs in an
 * order of creation, and the gates). A machine uses some of a rig's vCPUs; the others have their APIC disabled, and KVM
 * then passes over them. What no register page shows is put back by hand after each case (`#restore`).
 */
import { System, type Vcpu, type Vm } from '../kvm/index.ts';
import { makeVcpu, makeVm, x2apicFlags } from './host.ts';
import { clearState, type HostCpu, PageTracker, putState } from './host-machine.ts';
import { isEventful } from './operations.ts';
import { RigCache } from './rigs.ts';
import { type Case, type Judge, type Outcome, RESET_PAGE, type RigSpec, startState } from './spec.ts';
import { dropEvents, VcpuDoor } from './vcpu-door.ts';

/** Rigs that are kept; each holds up to 40 vCPUs, which are descriptors and kernel memory. */
const RIGS_KEPT = 6;

class RigCpu implements HostCpu {
  readonly apicId: number;
  readonly vcpu: Vcpu;
  readonly apic: VcpuDoor;

  constructor(vm: Vm, apicId: number) {
    this.apicId = apicId;
    this.vcpu = makeVcpu(vm, apicId);
    this.apic = new VcpuDoor(this.vcpu);
    clearState(this.apic);
  }

  settle(): number {
    return this.vcpu.getMpState() | (this.vcpu.getSregs().cs.selector & 0xff00);
  }

  events(): number {
    const { nmi, smi } = this.vcpu.getVcpuEvents();
    return nmi.pending | (smi.pending << 8);
  }
}

class Rig {
  readonly vm: Vm;
  readonly cpus: ReadonlyMap<number, RigCpu>;

  constructor(system: System, spec: RigSpec) {
    this.vm = makeVm(system, x2apicFlags(spec));
    this.cpus = new Map(spec.rig.map((apicId) => [apicId, new RigCpu(this.vm, apicId)]));
  }

  close(): void {
    for (const { vcpu } of this.cpus.values()) vcpu.close();
    this.vm.close();
  }
}

export class KernelJudge implements Judge {
  readonly name = 'kernel';
  readonly #system = System.open();
  readonly #rigs = new RigCache<Rig>(RIGS_KEPT);
  readonly #pages = new PageTracker(() => this.#nanos());
  #cpus: RigCpu[] = [];
  #began = 0n;
  /** Whether vCPUs may hold events that no register page shows. */
  #eventful = false;

  carryOut(candidate: Case): Outcome {
    const { machine, operations } = candidate;
    this.#restore();
    const { vm, cpus } = this.#rigs.get(machine) ?? this.#rigs.add(machine, new Rig(this.#system, machine));
    this.#cpus = machine.apics.map(({ apicId }) => cpuOf(cpus, apicId));
    this.#eventful = operations.some(isEventful);
    this.#began = process.hrtime.bigint();
    for (const [i, { apic }] of this.#cpus.entries()) putState(apic, machine.apics[i], machine.x2apicFormat, false);
    const answers = this.#pages.run(candidate, { cpus: this.#cpus, signalMsi: vm.signalMsi.bind(vm) });
    return { ...answers, cpus: [], events: [], nanos: this.#nanos() };
  }

  close(): void {
    this.#rigs.close();
    this.#system.close();
  }

  #nanos(): number {
    return Number(process.hrtime.bigint() - this.#began);
  }

  /**
   * Leaves every vCPU of the last machine as a new rig's are: APIC disabled, page empty, nothing pending, ISR cache empty
   * (KVM updates PPR from the ISR cache of the state before; see rule `isrCache`).
   */
  #restore(): void {
    for (const { apicId, vcpu, apic } of this.#cpus) {
      if (this.#eventful) {
        vcpu.getMpState(); // takes INIT and SIPI
        dropEvents(vcpu);
        vcpu.setMpState(startState(apicId));
        const sregs = vcpu.getSregs(); // a SIPI has moved CS
        vcpu.setSregs({ ...sregs, cs: { ...sregs.cs, selector: RESET_PAGE << 8, base: BigInt(RESET_PAGE) << 12n } });
      }
      clearState(apic);
    }
    this.#cpus = [];
    this.#eventful = false;
  }
}

/** The vCPU of a machine's APIC. */
export function cpuOf<Cpu>(cpus: ReadonlyMap<number, Cpu>, apicId: number): Cpu {
  const cpu = cpus.get(apicId);
  if (cpu === undefined) throw new Error(`the rig has no vCPU with APIC ID ${apicId}`);
  return cpu;
}
