/**
 * Rigs: the APIC IDs of a VM's vCPUs, in order of creation. Random, but thick with what matters: IDs that share their low
 * byte, IDs around 0xff and around the ends of clusters, neighbours in one x2APIC cluster.
 */
import { Random } from './random.ts';
import type { Gates } from './spec.ts';

const RIG_CPUS = 40;
const ID_LIMIT = 0x1000;
const FAVOURITES = [0, 1, 0x0f, 0x10, 0x23, 0xfe, 0xff, 0x100, 0x123, 0x1fe, 0x1ff, 0x2ff, 0xf23, 0xfff];

/** The vCPUs of a VM, in order of creation. */
export interface RigSpec extends Gates {
  readonly rig: readonly number[];
}

/** One text for each VM: a judge that keeps VMs finds them by it. */
export const rigKey = ({ x2apicFormat, broadcastQuirkDisabled, rig }: RigSpec): string =>
  `${Number(x2apicFormat)}${Number(broadcastQuirkDisabled)}:${rig.join()}`;

/** One rig for each setting of the gates. `idLimit` is what the host's KVM_CAP_MAX_VCPU_ID allows. */
export function makeRigs(seed: number, cpus = RIG_CPUS, idLimit = ID_LIMIT): RigSpec[] {
  const random = new Random(seed);
  return [0, 1, 2, 3].map((gates) => ({
    x2apicFormat: (gates & 1) !== 0,
    broadcastQuirkDisabled: (gates & 2) !== 0,
    rig: makeRig(random, cpus, Math.min(idLimit, ID_LIMIT)),
  }));
}

function makeRig(random: Random, cpus: number, idLimit: number): number[] {
  const ids = new Set<number>();
  const cluster = random.below(4) * 16;
  while (ids.size < cpus) {
    const id = random.pick(ID_MAKERS)(random, [...ids], cluster);
    if (id < idLimit) ids.add(id);
  }
  const list = [...ids];
  for (let i = list.length - 1; i > 0; i--) {
    const j = random.below(i + 1);
    [list[i], list[j]] = [list[j] ?? 0, list[i] ?? 0];
  }
  return list;
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
