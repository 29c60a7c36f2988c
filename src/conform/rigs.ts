/**
 * Rigs: the APIC IDs of a VM's vCPUs, in order of creation. Random, but thick with what matters: IDs that share their low
 * byte, IDs around 0xff and around the ends of clusters, neighbours in one x2APIC cluster.
 */
import fc from 'fast-check';
import { mix } from './choices.ts';
import type { RigSpec } from './spec.ts';

const RIG_CPUS = 40;
const MOST_IDS = 0x1000;
const LOW_BYTES = [0, 1, 0x0f, 0x10, 0x23, 0xfe, 0xff];

/** VMs, or who runs them, by their rigs: making one is costly. The oldest is closed where there are too many. */
export class RigCache<T extends { close(): void }> {
  readonly #most: number;
  readonly #kept = new Map<string, T>();

  constructor(most: number) {
    this.#most = most;
  }

  get(rig: RigSpec): T | undefined {
    return this.#kept.get(keyOf(rig));
  }

  /** @returns what was made for this rig */
  add(rig: RigSpec, made: T): T {
    const [oldest] = this.#kept;
    if (this.#kept.size >= this.#most && oldest !== undefined) {
      this.#kept.delete(oldest[0]);
      oldest[1].close();
    }
    this.#kept.set(keyOf(rig), made);
    return made;
  }

  close(): void {
    for (const each of this.#kept.values()) each.close();
    this.#kept.clear();
  }
}

const keyOf = ({ x2apicFormat, broadcastQuirkDisabled, rig }: RigSpec): string =>
  `${Number(x2apicFormat)}${Number(broadcastQuirkDisabled)}:${rig.join()}`;

/** What a rig has to keep to. */
export interface RigLimits {
  readonly cpus?: number;
  /** APIC IDs are below it: a host's KVM_CAP_MAX_VCPU_ID, or 0x1000 where that is more. At least 0x200. */
  readonly maxVcpuId?: number;
}

const ids = (cpus: number, maxVcpuId: number): fc.Arbitrary<number[]> =>
  fc.nat(3).chain((cluster) => {
    const neighbour = fc.nat(15).map((member) => cluster * 16 + member);
    const low = mix([4, fc.constantFrom(...LOW_BYTES)], [3, neighbour], [1, fc.nat(0xff)]);
    const high = mix([1, fc.constant(0)], [1, fc.nat((maxVcpuId >> 8) - 1)]);
    const id = fc.tuple(high, low).map(([high, low]) => high * 0x100 + low);
    return fc.uniqueArray(id, { minLength: cpus, maxLength: cpus });
  });

/** One rig for each setting of the gates. */
export function makeRigs(seed: number, { cpus = RIG_CPUS, maxVcpuId = MOST_IDS }: RigLimits = {}): RigSpec[] {
  return fc.sample(ids(cpus, Math.min(maxVcpuId, MOST_IDS)), { seed, numRuns: 4 }).map((rig, gates) => ({
    x2apicFormat: (gates & 1) !== 0,
    broadcastQuirkDisabled: (gates & 2) !== 0,
    rig,
  }));
}
