/**
 * One-line mutants of the local APIC and of the devices that once lived: what is counted, what a reset forgets, what a broadcast
 * reaches; and two of the map's protocol, which only schedules tell.
 */
import { type Mutant, type MutantList, unitTests } from './mutant.ts';

const apicFile = (name: string): string => `src/apic/${name}.ts`;
const uncounted = (counter: string): Mutant => ({
  name: `${counter} are not counted`,
  file: apicFile('local-apic'),
  find: `    this.#count(COUNTER.${counter});\n`,
  replace: '',
});

export const apic: MutantList = {
  name: 'apic',
  tests: unitTests(
    'apic',
    'ipi',
    'priority',
    'timer',
    'state',
    'xapic',
    'x2apic',
    'rules',
    'headline',
    'trace',
    'events',
  ),
  mutants: [
    ...['IPIS', 'EOIS', 'ACKNOWLEDGED', 'TIMER_EXPIRIES', 'FAULTS'].map(uncounted),
    {
      name: 'of the vectors in service one word is not counted',
      file: apicFile('vectors'),
      find: 'group < 8; group++) count +=',
      replace: 'group < 7; group++) count +=',
    },
    {
      name: 'vectors in service are counted by words',
      file: apicFile('vectors'),
      find: 'count += popCount(words[first + group * STRIDE]);',
      replace: 'count += words[first + group * STRIDE] === 0 ? 0 : 1;',
    },
    {
      name: 'a reset keeps the arbitration priority',
      file: apicFile('base'),
      find: '  Atomics.store(words, a + INBOX.ARB_PRIORITY, 0);\n',
      replace: '',
    },
    {
      name: 'so does a restored state',
      file: apicFile('state'),
      find: '  Atomics.store(words, a + INBOX.ARB_PRIORITY, 0);\n',
      replace: '',
    },
    {
      name: 'a reset keeps NMIs',
      file: apicFile('base'),
      find: '  Atomics.store(words, a + INBOX.NMIS, 0);\n',
      replace: '',
    },
    {
      name: 'without the quirk 0xffffffff is no broadcast',
      file: apicFile('behaviour'),
      find: 'LOGICAL.X2APIC;\n    return destination === BROADCAST.X2APIC;',
      replace: 'LOGICAL.X2APIC;\n    return false;',
    },
    {
      name: 'with it, an x2APIC sender reaches all by 0xff too',
      file: apicFile('behaviour'),
      find: 'if (fromX2apic) return destination === BROADCAST.X2APIC;',
      replace: 'if (fromX2apic && destination === BROADCAST.X2APIC) return true;',
    },
  ],
};

/** What no unit test can tell, but that of the scenario. */
export const map: MutantList = {
  name: 'map',
  scenarios: ['map-twins'],
  mutants: [
    {
      name: 'an identity is published after the map is marked dirty',
      file: apicFile('core'),
      find: '    this.publish();\n    this.map.markDirty();\n',
      replace: '    this.map.markDirty();\n    this.publish();\n',
    },
    {
      name: 'MAP_DIRTY becomes CLEAN by a store',
      file: apicFile('map'),
      find: 'Atomics.compareExchange(words, HEADER.MAP_DIRTY, DIRT.UPDATING, DIRT.CLEAN);',
      replace: 'Atomics.store(words, HEADER.MAP_DIRTY, DIRT.CLEAN);',
    },
  ],
};

const PIT = 'src/devices/pit.ts';
const IOAPIC = 'src/devices/ioapic.ts';

export const devices: MutantList = {
  name: 'devices',
  tests: unitTests('devices', 'pit', 'ioapic'),
  mutants: [
    {
      name: 'PIT: read-back latches the count when it is not asked for',
      file: PIT,
      find: '(value & READ_BACK_BITS.NO_COUNT) === 0',
      replace: '(value & READ_BACK_BITS.NO_COUNT) !== 0',
    },
    {
      name: 'PIT: read-back latches the status when it is not asked for',
      file: PIT,
      find: '(value & READ_BACK_BITS.NO_STATUS) === 0',
      replace: '(value & READ_BACK_BITS.NO_STATUS) !== 0',
    },
    {
      name: 'I/O APIC: a reset keeps the high words',
      file: IOAPIC,
      find: '    this.#state = powerUp(this.#state.sources);\n    this.#board.report',
      replace: '    this.#state = { ...powerUp(this.#state.sources), high: this.#state.high };\n    this.#board.report',
    },
    {
      name: 'I/O APIC: logical destinations are taken for physical ones',
      file: IOAPIC,
      find: 'COMMAND: 0xfff,',
      replace: 'COMMAND: 0x7ff,',
    },
  ],
};
