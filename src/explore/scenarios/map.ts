/** Scenarios of the APIC map: mark, rebuild, publish, read. */
import { type ApicSystem, type LocalApic, REG } from '../../apic/index.ts';
import type { AnyScenario, Scenario } from '../scenario.ts';
import { type ApicWorld, apics } from './apic-world.ts';

const VECTOR = 0x31;

const setId = (apic: LocalApic, id: number): void => apic.writeMmio(REG.ID, 4, id << 24);

/** A fixed interrupt by MSI to a physical ID. @returns how many took it, as KVM_SIGNAL_MSI says */
const msi = (system: ApicSystem, id: number): number =>
  system.signalMsi((0xfee00000 | ((id & 0xff) << 12)) >>> 0, id & ~0xff, VECTOR);

const twins: Scenario<ApicWorld> = {
  name: 'map-twins',
  from: 'apic/map.ts',
  promise:
    'A change that comes during a rebuild leaves DIRTY, and its author, who waits for the lock, rebuilds once more.',
  world: () => apics({ x2apicFormat: false }, [0, 0x23, 0x40]),
  threads: {
    'owner of vCPU 1': ({ attach }) => {
      const apic = attach().apic(1);
      return () => setId(apic, 0x50);
    },
    'owner of vCPU 2': ({ attach }) => {
      const apic = attach().apic(2);
      return () => setId(apic, 0x60);
    },
  },
  check: ({ attach }) => {
    const ids = [0x50, 0x60].filter((id) => !attach().map().physical.has(id));
    return ids.length === 0 ? '' : `the map does not have ${ids.map((id) => `0x${id.toString(16)}`).join(' and ')}`;
  },
};

const triplets: Scenario<ApicWorld> = {
  ...twins,
  name: 'map-three-changes',
  promise: 'DIRTY -> UPDATING -> CLEAN under it',
  world: () => apics({ x2apicFormat: false }, [0x70, 0x23, 0x40]),
  threads: {
    'owner of vCPU 0': ({ attach }) => {
      const apic = attach().apic(0);
      return () => setId(apic, 0x71);
    },
    ...twins.threads,
  },
  check: ({ attach }) => {
    const map = attach().map().physical;
    return [0x71, 0x50, 0x60].every((id) => map.has(id)) ? '' : 'the map lacks one of three changes';
  },
};

const ownChange: Scenario<ApicWorld> = {
  name: 'map-own-change',
  from: 'apic/map.ts',
  promise: "returns when a map is published that contains the caller's changes",
  world: () => apics({ x2apicFormat: false }, [0, 0x23, 0x40]),
  threads: {
    'owner of vCPU 1': ({ attach }) => {
      const apic = attach().apic(1);
      return () => setId(apic, 0x50);
    },
    'owner of vCPU 2, then sender': ({ attach }) => {
      const system = attach();
      const apic = system.apic(2);
      return () => {
        setId(apic, 0x60);
        return msi(system, 0x60);
      };
    },
  },
  check: (_world, [, taken]) => (taken === 1 ? '' : `an MSI to the ID that its sender has just set reached ${taken}`),
};

const reader: Scenario<ApicWorld> = {
  name: 'map-reader',
  from: 'apic/map.ts',
  promise: 'Up to s + 1 the builder was in the other buffer all the time, so what was read was whole.',
  world: () => apics({ x2apicFormat: true }, [0, 0x23, 0x123]),
  threads: {
    'owner of vCPU 0': ({ attach }) => {
      const apic = attach().apic(0);
      return () => {
        setId(apic, 7);
        setId(apic, 0);
        setId(apic, 7);
      };
    },
    sender: ({ attach }) => {
      const system = attach();
      return () => msi(system, 0x123);
    },
  },
  check: (_world, [, taken]) => (taken === 1 ? '' : `the MSI to 0x123 reached ${taken}`),
};

const three: Scenario<ApicWorld> = {
  name: 'map-two-builders-one-reader',
  from: 'apic/map.ts',
  promise:
    'Up to s + 1 the builder was in the other buffer all the time, so what was read was whole; otherwise it reads again.',
  world: () => apics({ x2apicFormat: false }, [0, 0x23, 0x40]),
  threads: {
    'owner of vCPU 0': ({ attach }) => {
      const apic = attach().apic(0);
      return () => setId(apic, 7);
    },
    'owner of vCPU 2': ({ attach }) => {
      const apic = attach().apic(2);
      return () => setId(apic, 0x41);
    },
    sender: ({ attach }) => {
      const system = attach();
      return () => msi(system, 0x23);
    },
  },
  check: ({ attach }, [, , taken]) => {
    const map = attach().map().physical;
    if (taken !== 1) return `the MSI to 0x23 reached ${taken}`;
    return map.get(7) === 0 && map.get(0x41) === 2 ? '' : 'the map is not that of the last changes';
  },
};

export const MAP_SCENARIOS: readonly AnyScenario[] = [twins, triplets, ownChange, reader, three];
