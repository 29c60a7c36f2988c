/**
 * The kernel as a judge, without a guest: its local APICs are set and read through ioctls alone.
 *
 * A VM costs 1 ms and a vCPU 0.3 ms here, a register page 8 us, so VMs are kept: one for each rig (a set of APIC IDs in an
 * order of creation, and the gates). A machine uses some of a rig's vCPUs; the others have their APIC disabled, and KVM
 * then passes over them. What no register page shows is put back by hand after each case (`#restore`).
 */
import { MSR, REG, STATE_BYTES } from '../apic/index.ts';
import { KvmError, MpState, System, type Vcpu, VcpuEventValid, type Vm } from '../kvm/index.ts';
import { CPUID, makeVm, x2apicFlags } from './host.ts';
import { applyRegisters, fillPage } from './page.ts';
import { EINVAL_OUTCOME, type Judge, type MachineSpec, type Operation } from './spec.ts';

const EINVAL = 22;
/** Rigs that are kept; each holds up to 40 vCPUs, which are descriptors and kernel memory. */
const RIGS_KEPT = 6;

interface Rig {
  readonly key: string;
  readonly vm: Vm;
  readonly cpus: ReadonlyMap<number, Vcpu>;
}

export class KernelJudge implements Judge {
  readonly name = 'kernel';
  readonly #system = System.open();
  readonly #page = new Uint8Array(STATE_BYTES);
  readonly #rigs: Rig[] = [];
  #rig: Rig | undefined;
  #machine: MachineSpec | undefined;
  #cpus: Vcpu[] = [];
  /** Whether vCPUs may hold events that no register page shows. */
  #eventful = false;

  build(machine: MachineSpec): void {
    this.#restore();
    const rig = this.#rigFor(machine);
    this.#rig = rig;
    this.#machine = machine;
    this.#cpus = machine.apics.map(({ apicId }) => {
      const cpu = rig.cpus.get(apicId);
      if (cpu === undefined) throw new Error(`the rig has no vCPU with APIC ID ${apicId}`);
      return cpu;
    });
    for (const [i, apic] of machine.apics.entries()) {
      this.#setBase(i, apic.baseLow, apic.baseHigh);
      fillPage(this.#page, apic, machine.x2apicFormat);
      this.#cpu(i).setLapic(this.#page);
    }
  }

  perform(operation: Operation): number {
    switch (operation.kind) {
      case 'msi':
        this.#eventful ||= (operation.data & 0x600) !== 0;
        return this.#open().vm.signalMsi(operation.addressLow, operation.addressHigh, operation.data);
      case 'base':
        return this.#setBase(operation.cpu, operation.low, operation.high);
      case 'read-base':
        return Number(this.#cpu(operation.cpu).getMsrs([MSR.APIC_BASE])[0]?.value ?? 0n);
      case 'state':
        this.#cpu(operation.cpu).getLapic(this.#page);
        applyRegisters(this.#page, operation.registers);
        return answer(() => this.#cpu(operation.cpu).setLapic(this.#page));
      case 'settle':
        return this.#cpu(operation.cpu).getMpState() | (this.#cpu(operation.cpu).getSregs().cs.selector & 0xff00);
      case 'events': {
        const { nmi, smi } = this.#cpu(operation.cpu).getVcpuEvents();
        return nmi.pending | (smi.pending << 8);
      }
    }
  }

  page(cpu: number, into: Uint8Array): void {
    this.#cpu(cpu).getLapic(into);
  }

  close(): void {
    for (const rig of this.#rigs) closeRig(rig);
    this.#rigs.length = 0;
    this.#system.close();
  }

  #cpu(index: number): Vcpu {
    const cpu = this.#cpus[index];
    if (cpu === undefined) throw new Error(`the machine has no CPU ${index}`);
    return cpu;
  }

  #open(): Rig {
    if (this.#rig === undefined) throw new Error('no machine was built');
    return this.#rig;
  }

  #setBase(cpu: number, low: number, high: number): number {
    const value = (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
    return answer(() => this.#cpu(cpu).setMsrs([{ index: MSR.APIC_BASE, value }]));
  }

  /** Leaves every vCPU of the last machine as a new rig's are: APIC disabled, page empty, nothing pending, ISR cache empty. */
  #restore(): void {
    for (let i = 0; i < this.#cpus.length; i++) {
      const cpu = this.#cpu(i);
      if (this.#eventful) {
        cpu.getMpState(); // takes INIT and SIPI
        const events = cpu.getVcpuEvents();
        cpu.setVcpuEvents({
          ...events,
          nmi: { ...events.nmi, pending: 0, injected: 0, masked: 0 },
          smi: { smm: 0, pending: 0, smmInsideNmi: 0, latchedInit: 0 },
          flags: VcpuEventValid.NMI_PENDING | VcpuEventValid.SMM,
        });
        cpu.setMpState(startState(this.#machine?.apics[i]?.apicId));
        const sregs = cpu.getSregs(); // a SIPI has moved CS
        cpu.setSregs({ ...sregs, cs: { ...sregs.cs, selector: RESET_PAGE << 8, base: BigInt(RESET_PAGE) << 12n } });
      }
      clear(cpu, this.#page);
    }
    this.#cpus = [];
    this.#eventful = false;
  }

  #rigFor(machine: MachineSpec): Rig {
    const key = `${Number(machine.x2apicFormat)}${Number(machine.broadcastQuirkDisabled)}:${machine.rig.join()}`;
    const found = this.#rigs.find((rig) => rig.key === key);
    if (found !== undefined) return found;
    if (this.#rigs.length >= RIGS_KEPT) {
      const oldest = this.#rigs.shift();
      if (oldest !== undefined) closeRig(oldest);
    }
    const vm = makeVm(this.#system, x2apicFlags(machine));
    const cpus = new Map<number, Vcpu>();
    for (const apicId of machine.rig) {
      const cpu = vm.createVcpu(apicId);
      cpu.setCpuid2(CPUID);
      clear(cpu, this.#page);
      cpus.set(apicId, cpu);
    }
    const rig = { key, vm, cpus };
    this.#rigs.push(rig);
    return rig;
  }
}

/** Upper byte of CS at power-up and after INIT. */
export const RESET_PAGE = 0xf0;

/** KVM_MP_STATE_* of a new vCPU: the boot processor is the one with ID 0. */
export const startState = (apicId: number | undefined): number =>
  apicId === 0 ? MpState.RUNNABLE : MpState.UNINITIALIZED;

/** Twice, since KVM updates PPR from the ISR cache of the state before; see rule `isrCache`. */
function clear(cpu: Vcpu, page: Uint8Array): void {
  cpu.setMsrs([{ index: MSR.APIC_BASE, value: 0n }]);
  page.fill(0);
  applyRegisters(page, [[REG.SPIV, 0xff]]);
  cpu.setLapic(page);
}

function closeRig(rig: Rig): void {
  for (const cpu of rig.cpus.values()) cpu.close();
  rig.vm.close();
}

function answer(ioctl: () => void): number {
  try {
    ioctl();
    return 0;
  } catch (error) {
    if (error instanceof KvmError && error.errno === EINVAL) return EINVAL_OUTCOME;
    throw error;
  }
}
