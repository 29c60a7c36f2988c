/**
 * Rigs: the APIC IDs of a VM's vCPUs, in order of creation. Random, but thick with what matters: IDs that share their low
 * byte, IDs around 0xff and around the ends of clusters, neighbours in one x2APIC cluster. And the APICs of the machines on
 * them, from what there is to say of their state.
 */
import { BASE, DFR, REG } from '../apic/index.ts';
import { LOCAL_APIC_BASE } from '../platform.ts';
import { Random } from './random.ts';
import type { ApicSpec, RegisterValue, RigSpec } from './spec.ts';

const RIG_CPUS = 40;
const ID_LIMIT = 0x1000;
const FAVOURITES = [0, 1, 0x0f, 0x10, 0x23, 0xfe, 0xff, 0x100, 0x123, 0x1fe, 0x1ff, 0x2ff, 0xf23, 0xfff];

/** One text for each VM: a judge that keeps VMs finds them by it. */
export const rigKey = ({ x2apicFormat, broadcastQuirkDisabled, rig }: RigSpec): string =>
  `${Number(x2apicFormat)}${Number(broadcastQuirkDisabled)}:${rig.join()}`;

/** One rig for each setting of the gates. */
export function makeRigs(seed: number, cpus = RIG_CPUS): RigSpec[] {
  const random = new Random(seed);
  return [0, 1, 2, 3].map((gates) => ({
    x2apicFormat: (gates & 1) !== 0,
    broadcastQuirkDisabled: (gates & 2) !== 0,
    rig: makeRig(random, cpus),
  }));
}

function makeRig(random: Random, cpus: number): number[] {
  const ids: number[] = [];
  const cluster = random.below(4) * 16;
  while (ids.length < cpus) {
    const id = random.pick(ID_MAKERS)(random, ids, cluster);
    if (!ids.includes(id)) ids.splice(random.below(ids.length + 1), 0, id); // anywhere in the order
  }
  return ids;
}

/** An ID, given the IDs that are there and a cluster that many share. */
type IdMaker = (random: Random, ids: readonly number[], cluster: number) => number;
const favourite: IdMaker = (random) => random.pick(FAVOURITES);
const alias: IdMaker = (random, ids) =>
  ids.length === 0 ? 0 : ((random.pick(ids) & 0xff) + random.below(16) * 0x100) & 0xfff;
const neighbour: IdMaker = (random, _, cluster) => cluster + random.below(16);
const ID_MAKERS = [
  ...[favourite, favourite, alias, alias, neighbour, neighbour],
  (random: Random) => random.below(0x100),
  (random: Random) => random.below(ID_LIMIT),
];

/** A value of a register, signed or not. */
export const reg = (register: number, value: number): RegisterValue => [register, value >>> 0];

/** What there is to say of an APIC's state; software-enabled and flat if nothing else is said. */
interface ApicState {
  readonly apicId: number;
  /** MODE. */
  readonly mode: number;
  /** BASE.BSP, or 0. */
  readonly bsp?: number;
  readonly page?: number;
  readonly spiv?: number;
  /** In the ID register, but in x2APIC mode. Default: the APIC ID's low byte. */
  readonly xapicId?: number;
  readonly logicalId?: number;
  readonly dfr?: number;
  readonly more?: readonly RegisterValue[];
}

export function makeApic(state: ApicState): ApicSpec {
  const { apicId, mode, bsp = 0, page = LOCAL_APIC_BASE, xapicId = apicId, logicalId = 0 } = state;
  const { spiv = 0x1ff, dfr = DFR.FLAT, more = [] } = state;
  const id = (mode & BASE.EXTD) === 0 ? [reg(REG.ID, xapicId << 24)] : [];
  const registers = [reg(REG.SPIV, spiv), ...id, reg(REG.LDR, logicalId << 24), reg(REG.DFR, dfr), ...more];
  return { apicId, baseLow: (page | mode | bsp) >>> 0, baseHigh: 0, registers };
}
