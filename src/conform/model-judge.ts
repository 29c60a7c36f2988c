/**
 * src/apic as a judge. What KVM keeps outside the APIC (mp_state, NMIs and SMIs that a vCPU has taken) is kept here, by the
 * rules of kvm_apic_accept_events and KVM_GET_VCPU_EVENTS.
 */
import {
  APIC_EVENT,
  ApicSystem,
  type ApicSystemOptions,
  BASE,
  type LocalApic,
  REG,
  STATE_BYTES,
} from '../apic/index.ts';
import { MpState } from '../kvm/index.ts';
import { RESET_PAGE, startState } from './kernel-judge.ts';
import { applyRegisters, fillPage } from './page.ts';
import { EINVAL_OUTCOME, type Judge, type MachineSpec, type Operation } from './spec.ts';

const NMI_LIMIT = 2;

interface Cpu {
  readonly apic: LocalApic;
  mpState: number;
  nmis: number;
  smi: boolean;
  /** Upper byte of CS. */
  startPage: number;
}

export class ModelJudge implements Judge {
  readonly name: string = 'model';
  readonly #options: ApicSystemOptions;
  readonly #page = new Uint8Array(STATE_BYTES);
  #system = new ApicSystem({ shared: false, maxApics: 1 });
  #cpus: Cpu[] = [];

  /** @param options the host's properties, the behaviour and the rules to break; the machine says the rest */
  constructor(options: ApicSystemOptions) {
    this.#options = options;
  }

  get system(): ApicSystem {
    return this.#system;
  }

  build(machine: MachineSpec): void {
    const { x2apicFormat, broadcastQuirkDisabled, apics } = machine;
    this.#system = new ApicSystem({
      ...this.#options,
      x2apicFormat,
      broadcastQuirkDisabled,
      maxApics: Math.max(apics.length, 1),
      maxApicId: apics.reduce((max, { apicId }) => Math.max(max, apicId), 255),
      lateMapEntry: true, // the states that follow rebuild the map
      shared: false,
    });
    this.#cpus = apics.map((spec) => {
      const apic = this.#system.addApic(spec.apicId);
      this.#clear(apic);
      return { apic, mpState: startState(spec.apicId), nmis: 0, smi: false, startPage: RESET_PAGE };
    });
    for (const [i, spec] of apics.entries()) {
      const { apic } = this.#cpu(i);
      apic.setApicBaseFromHost(spec.baseLow, spec.baseHigh);
      fillPage(this.#page, spec, x2apicFormat);
      apic.setState(this.#page);
    }
  }

  perform(operation: Operation): number {
    if (operation.kind === 'msi') {
      return this.#system.signalMsi(operation.addressLow, operation.addressHigh, operation.data);
    }
    const cpu = this.#cpu(operation.cpu);
    switch (operation.kind) {
      case 'base':
        return cpu.apic.setApicBaseFromHost(operation.low, operation.high) ? 0 : EINVAL_OUTCOME;
      case 'read-base':
        return Number(cpu.apic.apicBase());
      case 'state':
        cpu.apic.getState(this.#page);
        applyRegisters(this.#page, operation.registers);
        return cpu.apic.setState(this.#page) ? 0 : EINVAL_OUTCOME;
      case 'settle':
        return settle(cpu);
      case 'events':
        cpu.nmis = Math.min(cpu.nmis + cpu.apic.takeNmis(), NMI_LIMIT);
        if (cpu.apic.takeSmis() > 0) cpu.smi = true;
        return cpu.nmis | (cpu.smi ? 0x100 : 0);
    }
  }

  page(cpu: number, into: Uint8Array): void {
    this.#cpu(cpu).apic.getState(into);
  }

  close(): void {
    this.#cpus = [];
  }

  #cpu(index: number): Cpu {
    const cpu = this.#cpus[index];
    if (cpu === undefined) throw new Error(`the machine has no CPU ${index}`);
    return cpu;
  }

  /** As the kernel judge leaves its vCPUs: disabled, empty. */
  #clear(apic: LocalApic): void {
    apic.setApicBaseFromHost(0, 0);
    this.#page.fill(0);
    applyRegisters(this.#page, [[REG.SPIV, 0xff]]);
    apic.setState(this.#page);
  }
}

/** kvm_apic_accept_events. */
function settle(cpu: Cpu): number {
  const events = cpu.apic.takeEvents(cpu.mpState === MpState.INIT_RECEIVED);
  if ((events & APIC_EVENT.INIT) !== 0) {
    cpu.apic.reset(true);
    cpu.nmis = 0;
    cpu.smi = false;
    const boots = (cpu.apic.apicBaseLow & BASE.BSP) !== 0;
    cpu.mpState = boots ? MpState.RUNNABLE : MpState.INIT_RECEIVED;
    cpu.startPage = RESET_PAGE;
  }
  if ((events & APIC_EVENT.SIPI) !== 0 && cpu.mpState === MpState.INIT_RECEIVED) {
    cpu.mpState = MpState.RUNNABLE;
    cpu.startPage = cpu.apic.sipiVector;
  }
  return cpu.mpState | (cpu.startPage << 8);
}
