/**
 * The headline cases: who takes an interrupt to 0xff, 0x00, 0x1ff, 0x23, 0x123, by gate, broadcast quirk, sender, mode of the
 * targets and order of creation. One question, several judges: the model, KVM's APICs, and our monitor under a guest.
 *
 * The sender has APIC ID 1 and is created first; a device sends in its absence. The targets' IDs come in three pairs that
 * share their low byte. All are software-enabled.
 */
import { type ApicSystemOptions, BASE, REG, STATE_BYTES } from '../apic/index.ts';
import { KernelJudge } from './kernel-judge.ts';
import { ModelJudge } from './model-judge.ts';
import { KernelRig } from './registers/kernel-rig.ts';
import { RegisterModel } from './registers/model.ts';
import type { RegisterJudge, RegisterOperation } from './registers/operations.ts';
import { UserRig } from './registers/user-rig.ts';
import type { ApicSpec, Gates, Judge, MachineSpec, Operation } from './spec.ts';

export const DESTINATIONS = [0xff, 0x00, 0x1ff, 0x23, 0x123] as const;
export const SENDERS = ['xAPIC IPI', 'x2APIC IPI', 'MSI'] as const;
export type Sender = (typeof SENDERS)[number];
/**
 * - `xAPIC`, `x2APIC`: all of them
 * - `parked`: in x2APIC mode, but those with an ID over 0xff are still in xAPIC mode, as hot-added CPUs are, without a LDR
 * - `mixed`: the same with a LDR, so that there are two logical modes
 */
export const TARGET_MODES = ['xAPIC', 'x2APIC', 'parked', 'mixed'] as const;
export type TargetMode = (typeof TARGET_MODES)[number];
export const ORDERS = ['ascending', 'descending'] as const;
export type Order = (typeof ORDERS)[number];

export interface Question extends Gates {
  readonly sender: Sender;
  readonly targets: TargetMode;
  readonly order: Order;
  readonly destination: number;
}

const SENDER_ID = 1;
const TARGET_IDS = [0x00, 0x23, 0xff, 0x100, 0x123, 0x1ff];
const VECTOR = 0x41;
const IRR_OF_VECTOR = REG.IRR + (VECTOR >> 5) * 16;
const VECTOR_BIT = 1 << (VECTOR & 31);
const APIC_PAGE = 0xfee00000;
const ICR_MSR = 0x800 + (REG.ICR >> 4);
const ICR_ASSERT = 1 << 14;

/** An xAPIC IPI has eight destination bits; so has an MSI with the gate off. */
export const canBeSent = ({ sender, destination, x2apicFormat }: Question): boolean =>
  destination <= 0xff || sender === 'x2APIC IPI' || (sender === 'MSI' && x2apicFormat);

/** Every question that can be asked, in the table's order. */
export function allQuestions(): Question[] {
  const list: Question[] = [];
  for (const x2apicFormat of [false, true])
    for (const broadcastQuirkDisabled of [false, true])
      for (const sender of SENDERS)
        for (const targets of TARGET_MODES)
          for (const destination of DESTINATIONS)
            for (const order of ORDERS) {
              const question = { x2apicFormat, broadcastQuirkDisabled, sender, targets, order, destination };
              if (canBeSent(question)) list.push(question);
            }
  return list;
}

function rigOf(order: Order): number[] {
  return [SENDER_ID, ...(order === 'ascending' ? TARGET_IDS : TARGET_IDS.toReversed())];
}

export function machineOf({ x2apicFormat, broadcastQuirkDisabled, sender, targets, order }: Question): MachineSpec {
  const rig = rigOf(order);
  const apics = rig
    .filter((apicId) => apicId !== SENDER_ID || sender !== 'MSI')
    .map((apicId) => {
      const wide = apicId > 0xff;
      const x2apic =
        apicId === SENDER_ID ? sender === 'x2APIC IPI' : targets === 'x2APIC' || (targets !== 'xAPIC' && !wide);
      return makeApic(apicId, x2apic, targets === 'parked' && wide ? 0 : 1 << (rig.indexOf(apicId) % 8));
    });
  return { x2apicFormat, broadcastQuirkDisabled, apics, rig };
}

function makeApic(apicId: number, x2apic: boolean, logicalId: number): ApicSpec {
  return {
    apicId,
    baseLow: (APIC_PAGE | BASE.ENABLE | (x2apic ? BASE.EXTD : 0)) >>> 0,
    baseHigh: 0,
    registers: [
      [REG.SPIV, 0x1ff],
      [REG.DFR, 0xffffffff],
      ...(x2apic
        ? []
        : ([
            [REG.ID, (apicId & 0xff) * 2 ** 24],
            [REG.LDR, logicalId * 2 ** 24],
          ] as const)),
    ],
  };
}

export interface HeadlineJudge {
  readonly name: string;
  /** APIC IDs of those who took it, ascending. */
  takers(question: Question): Promise<number[]>;
  close(): void;
}

/** MSIs by a judge of layer 1, IPIs by one of layer 2. */
class TwoJudges implements HeadlineJudge {
  readonly name: string;
  readonly #msi: Judge;
  readonly #makeIpi: (machine: MachineSpec) => Promise<RegisterJudge> | RegisterJudge;
  #key = '';
  #ipi: RegisterJudge | undefined;

  constructor(name: string, msi: Judge, makeIpi: (machine: MachineSpec) => Promise<RegisterJudge> | RegisterJudge) {
    this.name = name;
    this.#msi = msi;
    this.#makeIpi = makeIpi;
  }

  async takers(question: Question): Promise<number[]> {
    const machine = machineOf(question);
    const pages = question.sender === 'MSI' ? this.#bySignal(question, machine) : await this.#byIpi(question, machine);
    return machine.apics
      .filter((_, i) => hasVector(pages[i]))
      .map(({ apicId }) => apicId)
      .toSorted((a, b) => a - b);
  }

  close(): void {
    this.#msi.close();
    this.#ipi?.close();
  }

  #bySignal({ destination }: Question, machine: MachineSpec): Uint8Array[] {
    this.#msi.build(machine);
    this.#msi.perform(msiTo(destination));
    return machine.apics.map((_, cpu) => {
      const page = new Uint8Array(STATE_BYTES);
      this.#msi.page(cpu, page);
      return page;
    });
  }

  /** A guest is booted for each rig; questions come in the order of the gates, so few are. */
  async #byIpi({ sender, destination }: Question, machine: MachineSpec): Promise<readonly Uint8Array[]> {
    const { x2apicFormat, broadcastQuirkDisabled, rig } = machine;
    const key = `${x2apicFormat} ${broadcastQuirkDisabled} ${rig.join()}`;
    if (this.#ipi === undefined || this.#key !== key) {
      this.#ipi?.close();
      this.#ipi = await this.#makeIpi(machine);
      this.#key = key;
    }
    const outcome = this.#ipi.carryOut({ machine, operations: ipiTo(sender, destination) });
    return outcome.cpus.map(({ page }) => page);
  }
}

export const msiTo = (destination: number): Operation => ({
  kind: 'msi',
  addressLow: APIC_PAGE + ((destination & 0xff) << 12),
  addressHigh: (destination & 0xffffff00) >>> 0,
  data: VECTOR,
});

function ipiTo(sender: Sender, destination: number): RegisterOperation[] {
  const operation = { cpu: 0, size: 4, low: 0, high: 0 };
  if (sender === 'x2APIC IPI') {
    return [{ ...operation, kind: 'wrmsr', address: ICR_MSR, low: VECTOR | ICR_ASSERT, high: destination }];
  }
  const write = { ...operation, kind: 'mmio-write' } as const;
  return [
    { ...write, address: APIC_PAGE + REG.ICR2, low: destination * 2 ** 24 },
    { ...write, address: APIC_PAGE + REG.ICR, low: VECTOR | ICR_ASSERT },
  ];
}

function hasVector(page: Uint8Array | undefined): boolean {
  if (page === undefined) return false;
  const view = new DataView(page.buffer, page.byteOffset, STATE_BYTES);
  return (view.getUint32(IRR_OF_VECTOR, true) & VECTOR_BIT) !== 0;
}

/** `model`: the host's properties (or none), the behaviour, the rules to break. */
export const modelHeadline = (model: ApicSystemOptions): HeadlineJudge =>
  new TwoJudges('model', new ModelJudge(model), () => new RegisterModel(model));

/** @throws KvmError when the host has no KVM that can be used */
export const kernelHeadline = (): HeadlineJudge =>
  new TwoJudges('kernel', new KernelJudge(), (machine) => KernelRig.create(machine));

/** Our monitor, under a guest that sends the IPIs. @throws KvmError */
export const monitorHeadline = (model: ApicSystemOptions): HeadlineJudge =>
  new TwoJudges('monitor', new ModelJudge(model), (machine) => UserRig.create(machine, model));

/** By the map or by a scan, as the model explains it. */
export function pathOf(question: Question, model: ApicSystemOptions): 'map' | 'scan' {
  const judge = new ModelJudge(model);
  judge.build(machineOf(question));
  const source = question.sender === 'MSI' ? {} : { source: 0 };
  return judge.system.explain({ ...source, destination: question.destination, vector: VECTOR }).path === 'scan'
    ? 'scan'
    : 'map';
}
