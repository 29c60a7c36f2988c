/**
 * The headline cases: who takes an interrupt to 0xff, 0x00, 0x1ff, 0x23, 0x123, by gate, broadcast quirk, sender, mode of the
 * targets and order of creation. One question, several judges: the model, KVM's APICs, and our monitor under a guest.
 *
 * The sender has APIC ID 1 and is created first; a device sends in its absence. The targets' IDs come in three pairs that
 * share their low byte. All are software-enabled.
 */
import { type ApicSystemOptions, BASE, REG } from '../apic/index.ts';
import { ModelJudge } from './model-judge.ts';
import { readRegister } from './page.ts';
import { rigKey } from './rigs.ts';
import type { ApicSpec, Gates, GuestOperation, HostOperation, Judge, MachineSpec, Operation } from './spec.ts';

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
  return { x2apicFormat, broadcastQuirkDisabled, apics, bootstrap: SENDER_ID, rig };
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

/** MSIs by a judge of the host's operations, IPIs by one whose machines run a guest. */
class TwoJudges implements HeadlineJudge {
  readonly name: string;
  readonly #msi: Judge;
  readonly #makeIpi: (machine: MachineSpec) => Promise<Judge> | Judge;
  #key = '';
  #ipi: Judge | undefined;

  constructor(name: string, msi: Judge, makeIpi: (machine: MachineSpec) => Promise<Judge> | Judge) {
    this.name = name;
    this.#msi = msi;
    this.#makeIpi = makeIpi;
  }

  async takers(question: Question): Promise<number[]> {
    const machine = machineOf(question);
    const { sender, destination } = question;
    const judge = sender === 'MSI' ? this.#msi : await this.#judgeOfIpis(machine);
    const operations: Operation[] = sender === 'MSI' ? [msiTo(destination)] : ipiTo(sender, destination);
    const { results, cpus } = judge.carryOut({ machine, operations });
    const changes = results[0]?.changes ?? [];
    return machine.apics
      .filter((_, i) => {
        const page = cpus[i]?.page;
        const changed = changes.find(([cpu, offset]) => cpu === i && offset === IRR_OF_VECTOR)?.[2] ?? 0;
        return ((page === undefined ? changed : readRegister(page, IRR_OF_VECTOR)) & VECTOR_BIT) !== 0;
      })
      .map(({ apicId }) => apicId)
      .toSorted((a, b) => a - b);
  }

  close(): void {
    this.#msi.close();
    this.#ipi?.close();
  }

  /** A guest is booted for each rig; questions come in the order of the gates, so few are. */
  async #judgeOfIpis(machine: MachineSpec): Promise<Judge> {
    const key = rigKey(machine);
    if (this.#ipi === undefined || this.#key !== key) {
      this.#ipi?.close();
      this.#ipi = await this.#makeIpi(machine);
      this.#key = key;
    }
    return this.#ipi;
  }
}

const msiTo = (destination: number): HostOperation => ({
  kind: 'msi',
  addressLow: APIC_PAGE + ((destination & 0xff) << 12),
  addressHigh: (destination & 0xffffff00) >>> 0,
  data: VECTOR,
});

function ipiTo(sender: Sender, destination: number): GuestOperation[] {
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

/** `model`: the host's properties (or none), the behaviour, the rules to break. */
export const modelHeadline = (model: ApicSystemOptions): HeadlineJudge =>
  new TwoJudges('model', new ModelJudge(model), () => new ModelJudge(model));

/** KVM's APICs; loaded when they are asked, since the model answers without the addon. @throws KvmError without KVM */
export async function kernelHeadline(): Promise<HeadlineJudge> {
  const { KernelJudge } = await import('./kernel-judge.ts');
  const { KernelRig } = await import('./registers/kernel-rig.ts');
  return new TwoJudges('kernel', new KernelJudge(), (machine) => KernelRig.create(machine));
}

/** Our monitor, under a guest that sends the IPIs. @throws KvmError without KVM */
export async function monitorHeadline(model: ApicSystemOptions): Promise<HeadlineJudge> {
  const { UserRig } = await import('./registers/user-rig.ts');
  return new TwoJudges('monitor', new ModelJudge(model), (machine) => UserRig.create(machine, model));
}

/** By the map or by a scan, as the model explains it. */
export function pathOf(question: Question, model: ApicSystemOptions): 'map' | 'scan' {
  const judge = new ModelJudge(model);
  judge.build(machineOf(question), question.sender !== 'MSI');
  const source = question.sender === 'MSI' ? {} : { source: 0 };
  return judge.system.explain({ ...source, destination: question.destination, vector: VECTOR }).path === 'scan'
    ? 'scan'
    : 'map';
}
