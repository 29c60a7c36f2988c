/**
 * The headline cases: who takes an interrupt to 0xff, 0x00, 0x1ff, 0x23, 0x123, by gate, broadcast quirk, sender, mode of the
 * targets and order of creation. One question, several judges: the model, KVM's APICs, and our monitor under a guest.
 *
 * The sender has APIC ID 1 and is created first; a device sends in its absence. The targets' IDs come in three pairs that
 * share their low byte. All are software-enabled.
 */
import { type ApicSystemOptions, COMMAND, MODE, REG } from '../apic/index.ts';
import { LOCAL_APIC_BASE } from '../platform.ts';
import { ModelJudge } from './model-judge.ts';
import { msrOf } from './operations.ts';
import { makeApic, readRegister } from './page.ts';
import { RigCache } from './rigs.ts';
import type { Gates, GuestOperation, HostOperation, Judge, MachineSpec, RigSpec } from './spec.ts';

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

/** An xAPIC IPI has eight destination bits; so has an MSI with the gate off. */
export const canBeSent = ({ sender, destination, x2apicFormat }: Omit<Question, 'order'>): boolean =>
  destination <= 0xff || sender === 'x2APIC IPI' || (sender === 'MSI' && x2apicFormat);

export function machineOf({ x2apicFormat, broadcastQuirkDisabled, sender, targets, order }: Question): MachineSpec {
  const rig = [SENDER_ID, ...(order === 'ascending' ? TARGET_IDS : TARGET_IDS.toReversed())];
  const apics = rig
    .filter((apicId) => apicId !== SENDER_ID || sender !== 'MSI')
    .map((apicId) => {
      const wide = apicId > 0xff;
      const isX2apic =
        apicId === SENDER_ID ? sender === 'x2APIC IPI' : targets === 'x2APIC' || (targets !== 'xAPIC' && !wide);
      const logicalId = targets === 'parked' && wide ? 0 : 1 << (rig.indexOf(apicId) % 8);
      return makeApic({ apicId, mode: isX2apic ? MODE.X2APIC : MODE.XAPIC, logicalId });
    });
  return { x2apicFormat, broadcastQuirkDisabled, apics, bootstrap: SENDER_ID, rig };
}

type MakeJudge = (rig: RigSpec) => Promise<Judge> | Judge;

/** MSIs by a judge of the host's operations, IPIs by one whose machines run a guest. */
export class HeadlineJudge {
  readonly name: string;
  readonly #msi: Judge;
  readonly #makeIpi: MakeJudge;
  /** Both orders of the same gates: a guest is booted for each rig. */
  readonly #ipi = new RigCache<Judge>(ORDERS.length);

  constructor(name: string, msi: Judge, makeIpi: MakeJudge) {
    this.name = name;
    this.#msi = msi;
    this.#makeIpi = makeIpi;
  }

  /** APIC IDs of those who took it, ascending. */
  async takers(question: Question): Promise<number[]> {
    const machine = machineOf(question);
    const { sender, destination } = question;
    const guest = async (): Promise<Judge> =>
      this.#ipi.get(machine) ?? this.#ipi.add(machine, await this.#makeIpi(machine));
    const judge = sender === 'MSI' ? this.#msi : await guest();
    const operations = sender === 'MSI' ? [msiTo(destination)] : ipiTo(sender, destination);
    const { results, cpus } = judge.carryOut({ machine, operations });
    const changes = results[0]?.changes ?? [];
    const irrOf = (cpu: number): number =>
      cpus.length > 0
        ? readRegister(cpus[cpu].page, IRR_OF_VECTOR)
        : (changes.find(([of, offset]) => of === cpu && offset === IRR_OF_VECTOR)?.[2] ?? 0);
    const takers = machine.apics.filter((_, cpu) => (irrOf(cpu) & VECTOR_BIT) !== 0);
    return takers.map(({ apicId }) => apicId).toSorted((a, b) => a - b);
  }

  close(): void {
    this.#msi.close();
    this.#ipi.close();
  }
}

const msiTo = (destination: number): HostOperation => ({
  kind: 'msi',
  addressLow: LOCAL_APIC_BASE + ((destination & 0xff) << 12),
  addressHigh: (destination & 0xffffff00) >>> 0,
  data: VECTOR,
});

function ipiTo(sender: Sender, destination: number): GuestOperation[] {
  const icr = { cpu: 0, size: 4, low: VECTOR | COMMAND.ASSERT, high: 0 };
  if (sender === 'x2APIC IPI') return [{ ...icr, kind: 'wrmsr', address: msrOf(REG.ICR), high: destination }];
  return [
    { ...icr, kind: 'mmio-write', address: LOCAL_APIC_BASE + REG.ICR2, low: destination * 2 ** 24 },
    { ...icr, kind: 'mmio-write', address: LOCAL_APIC_BASE + REG.ICR },
  ];
}

/** `model`: the host's properties (or none), the behaviour, the rules to break. */
export const modelHeadline = (model: ApicSystemOptions): HeadlineJudge =>
  new HeadlineJudge('model', new ModelJudge(model), () => new ModelJudge(model));

/** KVM's APICs; loaded when they are asked, since the model answers without the addon. @throws KvmError without KVM */
export async function kernelHeadline(): Promise<HeadlineJudge> {
  const { KernelJudge } = await import('./kernel-judge.ts');
  const { KernelRig } = await import('./registers/kernel-rig.ts');
  return new HeadlineJudge('kernel', new KernelJudge(), (machine) => KernelRig.create(machine));
}

/** Our monitor, under a guest that sends the IPIs. @throws KvmError without KVM */
export async function monitorHeadline(model: ApicSystemOptions): Promise<HeadlineJudge> {
  const { UserRig } = await import('./registers/user-rig.ts');
  return new HeadlineJudge('monitor', new ModelJudge(model), (machine) => UserRig.create(machine, model));
}

/** By the map or by a scan, as the model explains it. */
export function pathOf(question: Question, model: ApicSystemOptions): 'map' | 'scan' {
  const judge = new ModelJudge(model);
  judge.build(machineOf(question), question.sender !== 'MSI');
  const source = question.sender === 'MSI' ? {} : { source: 0 };
  const { path } = judge.system.explain({ ...source, destination: question.destination, vector: VECTOR });
  return path === 'scan' ? path : 'map';
}
