/**
 * The headline cases: who takes an interrupt to 0xff, 0x00, 0x1ff, 0x23 and 0x123, by gate, broadcast quirk, sender, mode of
 * each target and order of creation. The rows were derived from arch/x86/kvm/lapic.c; a differential run against a 6.18 kernel agrees with every one of them.
 */
import { describe, expect, it } from 'vitest';
import type { ApicSystemOptions } from '../../../src/apic/index.ts';
import { type CpuSpec, LDR, make, sendIpi, sendMsi, takers, write } from './helpers.ts';

type Sender = 'x2apic' | 'xapic' | 'msi';

interface Row {
  readonly name: string;
  readonly options: ApicSystemOptions;
  readonly cpus: readonly CpuSpec[];
  readonly sender: Sender;
  readonly destination: number;
  readonly path: 'map' | 'scan';
  /** APIC IDs. */
  readonly takers: readonly number[];
}

const VECTOR = 0x41;
const on = { x2apicFormat: true };
const off = { x2apicFormat: false };
const noQuirk = { broadcastQuirkDisabled: true };

// vCPU 0 sends. Then one in xAPIC mode, ID 255 in x2APIC mode, and an x2APIC one that is neither.
const mixed: readonly CpuSpec[] = [
  [0, 'x2apic'],
  [1, 'xapic'],
  [0xff, 'x2apic'],
  [3, 'x2apic'],
];
const mixedFromXapic: readonly CpuSpec[] = [
  [0, 'xapic'],
  [1, 'xapic'],
  [0xff, 'x2apic'],
  [3, 'x2apic'],
];
const allX2apic: readonly CpuSpec[] = [
  [0, 'x2apic'],
  [1, 'x2apic'],
  [0xff, 'x2apic'],
];
// 256 is parked: hot-added, still in xAPIC mode, software-disabled, its 8-bit ID the same as vCPU 0's would be.
const parked: readonly CpuSpec[] = [
  [0, 'xapic'],
  [1, 'x2apic'],
  [0x100, 'xapic'],
  [0xff, 'x2apic'],
];
const hotplug: readonly CpuSpec[] = [
  [0, 'x2apic'],
  [0x23, 'xapic'],
  [0x123, 'xapic'],
];
const hotplugReversed: readonly CpuSpec[] = [
  [0, 'x2apic'],
  [0x123, 'xapic'],
  [0x23, 'xapic'],
];
const wide511: readonly CpuSpec[] = [
  [0, 'x2apic'],
  [0x1ff, 'xapic'],
  [0xff, 'xapic'],
];
const wide511Last: readonly CpuSpec[] = [
  [0, 'x2apic'],
  [0xff, 'xapic'],
  [0x1ff, 'xapic'],
];

const rows: readonly Row[] = [
  // Physical 0xff.
  {
    name: 'x2APIC IPI, gate on, quirk: only ID 255',
    options: on,
    cpus: mixed,
    sender: 'x2apic',
    destination: 0xff,
    path: 'map',
    takers: [0xff],
  },
  {
    name: 'x2APIC IPI, gate on: 511 in xAPIC mode takes it when created before 255',
    options: on,
    cpus: wide511,
    sender: 'x2apic',
    destination: 0xff,
    path: 'map',
    takers: [0x1ff],
  },
  {
    name: 'x2APIC IPI, gate on: 255 takes it when created before 511',
    options: on,
    cpus: wide511Last,
    sender: 'x2apic',
    destination: 0xff,
    path: 'map',
    takers: [0xff],
  },
  {
    name: 'x2APIC IPI, gate on, no quirk, all x2APIC: only ID 255',
    options: { ...on, ...noQuirk },
    cpus: allX2apic,
    sender: 'x2apic',
    destination: 0xff,
    path: 'map',
    takers: [0xff],
  },
  {
    name: 'x2APIC IPI, gate off, quirk, no alias: only ID 255',
    options: off,
    cpus: mixed,
    sender: 'x2apic',
    destination: 0xff,
    path: 'map',
    takers: [0xff],
  },
  {
    name: 'x2APIC IPI, gate off, an alias: every xAPIC-mode APIC and ID 255',
    options: off,
    cpus: [
      [3, 'x2apic'],
      [0, 'xapic'],
      [0x100, 'xapic'],
      [0xff, 'x2apic'],
    ],
    sender: 'x2apic',
    destination: 0xff,
    path: 'scan',
    takers: [0, 0x100, 0xff],
  },
  {
    name: 'xAPIC IPI, gate on, quirk: every xAPIC-mode APIC and ID 255',
    options: on,
    cpus: mixedFromXapic,
    sender: 'xapic',
    destination: 0xff,
    path: 'scan',
    takers: [0, 1, 0xff],
  },
  {
    name: 'xAPIC IPI, gate off, quirk: every xAPIC-mode APIC and ID 255',
    options: off,
    cpus: mixedFromXapic,
    sender: 'xapic',
    destination: 0xff,
    path: 'scan',
    takers: [0, 1, 0xff],
  },
  {
    name: 'MSI, gate on, quirk: everyone',
    options: on,
    cpus: mixed,
    sender: 'msi',
    destination: 0xff,
    path: 'scan',
    takers: [0, 1, 0xff, 3],
  },
  {
    name: 'MSI, gate off, quirk: everyone',
    options: off,
    cpus: mixed,
    sender: 'msi',
    destination: 0xff,
    path: 'scan',
    takers: [0, 1, 0xff, 3],
  },
  {
    name: 'MSI, no quirk, all x2APIC: only ID 255',
    options: { ...on, ...noQuirk },
    cpus: allX2apic,
    sender: 'msi',
    destination: 0xff,
    path: 'map',
    takers: [0xff],
  },

  // 0x00, aliased by a parked vCPU 256.
  {
    name: '0, gate off, 256 parked: vCPU 0 and 256',
    options: off,
    cpus: parked,
    sender: 'msi',
    destination: 0,
    path: 'scan',
    takers: [0, 0x100],
  },
  {
    name: '0, gate on, 256 parked: only vCPU 0',
    options: on,
    cpus: parked,
    sender: 'msi',
    destination: 0,
    path: 'map',
    takers: [0],
  },
  {
    name: '0, gate on, 256 created first: only 256',
    options: on,
    cpus: [
      [0x100, 'xapic'],
      [0, 'xapic'],
    ],
    sender: 'msi',
    destination: 0,
    path: 'map',
    takers: [0x100],
  },
  {
    name: '0, gate on, 256 created first but 0 in x2APIC mode: only 0',
    options: on,
    cpus: [
      [0x100, 'xapic'],
      [0, 'x2apic'],
    ],
    sender: 'msi',
    destination: 0,
    path: 'map',
    takers: [0],
  },

  // 0x23 and 0x123, the hotplug pair.
  {
    name: '0x23, gate on: the one created first',
    options: on,
    cpus: hotplug,
    sender: 'x2apic',
    destination: 0x23,
    path: 'map',
    takers: [0x23],
  },
  {
    name: '0x23, gate on, 0x123 created first: it, not the lowest ID',
    options: on,
    cpus: hotplugReversed,
    sender: 'x2apic',
    destination: 0x23,
    path: 'map',
    takers: [0x123],
  },
  {
    name: '0x23, gate off: both',
    options: off,
    cpus: hotplug,
    sender: 'x2apic',
    destination: 0x23,
    path: 'scan',
    takers: [0x23, 0x123],
  },
  {
    name: '0x123, gate on: it, although in xAPIC mode',
    options: on,
    cpus: hotplug,
    sender: 'x2apic',
    destination: 0x123,
    path: 'map',
    takers: [0x123],
  },
  {
    name: '0x123, gate off: it, by the scan',
    options: off,
    cpus: hotplug,
    sender: 'x2apic',
    destination: 0x123,
    path: 'scan',
    takers: [0x123],
  },
  {
    name: '0x123, gate off, no alias: nobody, since the map has no such ID',
    options: off,
    cpus: [
      [0, 'x2apic'],
      [0x123, 'xapic'],
    ],
    sender: 'x2apic',
    destination: 0x123,
    path: 'map',
    takers: [],
  },
  {
    name: '0x23, gate on, 0x123 in x2APIC mode: only 0x23',
    options: on,
    cpus: [
      [0, 'x2apic'],
      [0x123, 'x2apic'],
      [0x23, 'xapic'],
    ],
    sender: 'x2apic',
    destination: 0x23,
    path: 'map',
    takers: [0x23],
  },

  // 0x1ff.
  {
    name: '0x1ff, gate on: 511 in xAPIC mode',
    options: on,
    cpus: wide511,
    sender: 'x2apic',
    destination: 0x1ff,
    path: 'map',
    takers: [0x1ff],
  },
  {
    name: '0x1ff, gate on, absent: nobody',
    options: on,
    cpus: mixed,
    sender: 'x2apic',
    destination: 0x1ff,
    path: 'map',
    takers: [],
  },
  {
    name: '0x1ff, gate off, aliased with 255: 511 by scan',
    options: off,
    cpus: wide511,
    sender: 'x2apic',
    destination: 0x1ff,
    path: 'scan',
    takers: [0x1ff],
  },

  // 0xffffffff.
  {
    name: '0xffffffff, x2APIC IPI, mixed: only APICs in x2APIC mode',
    options: on,
    cpus: mixed,
    sender: 'x2apic',
    destination: 0xffffffff,
    path: 'scan',
    takers: [0, 0xff, 3],
  },
];

describe('headline table', () => {
  for (const row of rows) {
    it(row.name, () => {
      const { system, apics } = make(row.options, row.cpus);
      const source = row.sender === 'msi' ? {} : { source: 0 };
      const explained = system.explain({ destination: row.destination, vector: VECTOR, ...source });
      if (row.sender === 'msi') sendMsi(system, row.destination, VECTOR);
      else sendIpi(apics[0], row.destination, VECTOR);
      expect(takers(apics, VECTOR).map((i) => apics[i].apicId)).toEqual(row.takers);
      expect(explained.path).toBe(row.path);
    });
  }

  it('x2APIC IPI to 0xff, no quirk, mixed logical modes: every xAPIC-mode APIC and ID 255', () => {
    const { system, apics } = make({ ...on, ...noQuirk }, mixed);
    write(apics[1], LDR, 0x01000000);
    expect(system.explain({ source: 0, destination: 0xff, vector: VECTOR }).path).toBe('scan');
    sendIpi(apics[0], 0xff, VECTOR);
    expect(takers(apics, VECTOR)).toEqual([1, 2]);
  });

  it('x2APIC IPI to 0xff, no quirk, nobody software-enabled: an NMI reaches every xAPIC-mode APIC and ID 255', () => {
    const { system, apics } = make({ ...on, ...noQuirk }, [
      [3, 'disabled'],
      [1, 'disabled'],
      [0xff, 'disabled'],
    ]);
    apics[0].setApicBase(0xfee00c00, 0);
    apics[2].setApicBase(0xfee00c00, 0);
    expect(system.explain({ source: 0, destination: 0xff, vector: VECTOR }).path).toBe('scan');
    sendIpi(apics[0], 0xff, 0x400);
    expect(apics.map((apic) => apic.takeNmis())).toEqual([0, 1, 1]);
  });

  it('with 32-bit IDs off, an MSI has only eight destination bits', () => {
    const { system, apics } = make(off, [
      [0x23, 'xapic'],
      [0x124, 'x2apic'],
    ]);
    expect(system.signalMsi(0xfee23000, 0x100, VECTOR)).toBe(1);
    expect(takers(apics, VECTOR)).toEqual([0]);
  });

  it('a failed map allocation breaks the promise of the gate: aliases both take it', () => {
    const { system, apics } = make({ ...on, failMapAllocation: true }, hotplug);
    sendIpi(apics[0], 0x23, VECTOR);
    expect(takers(apics, VECTOR)).toEqual([1, 2]);
    expect(system.map()).toMatchObject({ state: 'disabled', reason: 'its memory could not be allocated' });
    expect(system.map().inhibits).toEqual(['physical ID aliased', 'logical ID aliased']);
  });
});

describe('kvm-legacy: the hack whatever the gate', () => {
  for (const x2apicFormat of [false, true]) {
    it(`gate ${x2apicFormat ? 'on' : 'off'}: 0x23 reaches the first, 0x123 reaches 0x123`, () => {
      const { system, apics } = make({ behaviour: 'kvm-legacy', x2apicFormat }, hotplug);
      sendIpi(apics[0], 0x23, VECTOR);
      sendIpi(apics[0], 0x123, VECTOR + 1);
      expect(takers(apics, VECTOR)).toEqual([1]);
      expect(takers(apics, VECTOR + 1)).toEqual([2]);
      expect(system.map().state).toBe('map');
    });
  }

  it('of two APICs on one logical bit the last one has it', () => {
    const { system, apics } = make({ behaviour: 'kvm-legacy' }, [[0], [1]]);
    for (const apic of apics) apic.writeMmio(0xd0, 4, 0x02000000);
    expect(system.map()).toMatchObject({ logicalMode: 'flat' });
    system.deliver({ destination: 2, logical: true, vector: VECTOR });
    expect(takers(apics, VECTOR)).toEqual([1]);
  });

  it('with no software-enabled APIC a logical destination is scanned for', () => {
    const { system } = make({ behaviour: 'kvm-legacy' }, [[0, 'disabled']]);
    expect(system.deliver({ destination: 2, logical: true, vector: VECTOR })).toBe(-1);
    expect(make({}, [[0, 'disabled']]).system.deliver({ destination: 2, logical: true, vector: VECTOR })).toBe(0);
  });
});

describe('hardware: an xAPIC compares eight bits', () => {
  const behaviour = 'hardware' as const;

  for (const x2apicFormat of [false, true]) {
    it(`gate ${x2apicFormat ? 'on' : 'off'}: 0x123 reaches 0x123 and 0x23, and so does 0x23`, () => {
      const { system, apics } = make({ behaviour, x2apicFormat }, hotplug);
      sendIpi(apics[0], 0x123, VECTOR);
      sendIpi(apics[0], 0x23, VECTOR + 1);
      expect(takers(apics, VECTOR)).toEqual([1, 2]);
      expect(takers(apics, VECTOR + 1)).toEqual([1, 2]);
      expect(system.map().state).toBe('disabled');
    });
  }

  it('an x2APIC-mode APIC is reached by all 32 bits only', () => {
    const { apics } = make({ behaviour }, [
      [0, 'x2apic'],
      [0x23, 'x2apic'],
      [0x123, 'x2apic'],
    ]);
    sendIpi(apics[0], 0x123, VECTOR);
    expect(takers(apics, VECTOR)).toEqual([2]);
    sendIpi(apics[0], 0xff, VECTOR + 1);
    expect(takers(apics, VECTOR + 1)).toEqual([]);
  });

  it('a destination whose low byte is 0xff is broadcast to xAPIC-mode APICs', () => {
    const { apics } = make({ behaviour }, [
      [0, 'x2apic'],
      [1, 'xapic'],
      [0x1ff, 'x2apic'],
    ]);
    sendIpi(apics[0], 0x1ff, VECTOR);
    expect(takers(apics, VECTOR)).toEqual([1, 2]);
  });

  it('the map answers where it is exact', () => {
    const { system } = make({ behaviour }, [
      [0, 'xapic'],
      [1, 'xapic'],
    ]);
    expect(system.explain({ destination: 1, vector: VECTOR })).toMatchObject({ path: 'map', map: [1] });
    expect(system.explain({ destination: 0x101, vector: VECTOR })).toMatchObject({ path: 'scan', scanTargets: [1] });
  });
});
