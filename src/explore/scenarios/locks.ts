/** Scenarios of the locks, and of what they guard: adding APICs. */
import { REG } from '../../apic/index.ts';
import { lock, unlock } from '../../apic/lock.ts';
import { ownWords } from '../own-words.ts';
import type { AnyScenario, Scenario } from '../scenario.ts';
import { type ApicWorld, apics } from './apic-world.ts';

const LOCK = 0;
const COUNT = 1;
const ADDED_ID = 0x41;

type Words = () => Int32Array;

/** Counts without atomics, under the lock. */
const counter = (view: Words) => () => {
  const words = view();
  lock(words, LOCK, 'counting');
  words[COUNT]++;
  unlock(words, LOCK);
};

const mutex: Scenario<Words> = {
  name: 'lock-three-threads',
  from: 'apic/lock.ts',
  promise: 'one word, 0 free, 1 held, 2 held and somebody may sleep',
  world: () => {
    const { region, view } = ownWords(['LOCK', 'COUNT']);
    return { regions: [region], world: view };
  },
  threads: { 'a thread': counter, another: counter, 'a third': counter },
  check: (view) => {
    const words = view();
    if (words[COUNT] !== 3) return `three threads count to ${words[COUNT]}`;
    return words[LOCK] === 0 ? '' : `the lock is left at ${words[LOCK]}`;
  },
};

const add: Scenario<ApicWorld> = {
  name: 'add-while-others-send',
  from: 'apic/layout.ts',
  promise: 'header COUNT addApic (store), after the block',
  world: () => apics({ x2apicFormat: false, maxApics: 3 }, [0, 0x23]),
  threads: {
    'adder of 0x41': ({ attach }) => {
      const system = attach();
      return () => system.addApic(ADDED_ID, { bootstrap: false }).vcpuIndex;
    },
    // An NMI reaches an APIC that is not software-enabled. A scan finds everyone who is counted.
    sender: ({ attach }) => {
      const system = attach();
      return () => {
        const count = system.count;
        return (
          count * 16 +
          (count === 3 ? system.deliver({ destination: ADDED_ID, vector: 0, deliveryMode: 4, shorthand: 2 }) : 3)
        );
      };
    },
  },
  check: ({ attach }, [index, sent]) => {
    if (index !== 2) return `the APIC added is vCPU ${index}`;
    if (sent === 3 * 16 + 2) return 'an APIC is counted, and a broadcast does not find it';
    return attach().map().physical.get(ADDED_ID) === 2 ? '' : 'the APIC added is not in the map';
  },
};

const twoAdders: Scenario<ApicWorld> = {
  name: 'add-two-at-once',
  from: 'apic/layout.ts',
  promise: 'header COUNT addApic (store), after the block',
  world: () => apics({ x2apicFormat: false, maxApics: 3 }, [0]),
  threads: {
    'adder of 0x41': ({ attach }) => {
      const system = attach();
      return () => system.addApic(ADDED_ID, { bootstrap: false }).vcpuIndex;
    },
    'adder of 0x42': ({ attach }) => {
      const system = attach();
      return () => system.addApic(ADDED_ID + 1, { bootstrap: false }).vcpuIndex;
    },
  },
  check: ({ attach }, [first, second]) => {
    const map = attach().map().physical;
    if (attach().count !== 3) return `there are ${attach().count} APICs of three`;
    return map.get(ADDED_ID) === first && map.get(ADDED_ID + 1) === second ? '' : 'the map does not have both';
  },
};

const addAndChange: Scenario<ApicWorld> = {
  name: 'add-while-an-id-changes',
  from: 'apic/map.ts',
  promise:
    'A change that comes during a rebuild leaves DIRTY, and its author, who waits for the lock, rebuilds once more.',
  world: () => apics({ x2apicFormat: false, maxApics: 3 }, [0, 0x23]),
  threads: {
    'adder of 0x41': ({ attach }) => {
      const system = attach();
      return () => system.addApic(ADDED_ID, { bootstrap: false }).vcpuIndex;
    },
    'owner of vCPU 1': ({ attach }) => {
      const apic = attach().apic(1);
      return () => apic.writeMmio(REG.ID, 4, 0x50 << 24);
    },
  },
  check: ({ attach }) => {
    const map = attach().map().physical;
    return map.get(ADDED_ID) === 2 && map.get(0x50) === 1 ? '' : 'the map does not have both';
  },
};

export const LOCK_SCENARIOS: readonly AnyScenario[] = [mutex, add, twoAdders, addAndChange];
