/** The optimized map: when there is one, what it holds, how it agrees with a scan (kvm_recalculate_apic_map). */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type ApicMessage,
  ApicSystem,
  type ApicSystemOptions,
  type Behaviour,
  MAP_DIFFERENCES,
  type MapDifferenceName,
} from '../../../src/apic/index.ts';
import { type CpuSpec, DFR, enter, ID, LDR, make, SPIV, setRegister, write } from './helpers.ts';

const physical = (system: ApicSystem): [number, number][] => [...system.map().physical];

describe('the physical map', () => {
  it('has room for 8-bit IDs, and up to the highest ID of an enabled APIC', () => {
    const { system, apics } = make({}, [[0], [0x123]]);
    expect(system.map().maxApicId).toBe(0x123);
    enter(apics[1], 'off');
    expect(system.map().maxApicId).toBe(0xff);
    expect(physical(system)).toEqual([[0, 0]]);
  });

  it('gate off: xAPIC ID in xAPIC mode, x2APIC ID in x2APIC mode', () => {
    const { system } = make({}, [[0x124], [0x125, 'x2apic']]);
    expect(physical(system)).toEqual([
      [0x24, 0],
      [0x125, 1],
    ]);
  });

  it('gate off: an alias drops the map, and removing it brings the map back', () => {
    const { system, apics } = make({}, [[0], [0x100]]);
    expect(system.map()).toMatchObject({ state: 'disabled', reason: "the physical ID of vCPU 1 is another one's too" });
    expect(system.map().inhibits).toEqual(['physical ID aliased', 'logical ID aliased']);
    enter(apics[1], 'x2apic');
    expect(system.map()).toMatchObject({ state: 'map', reason: null, inhibits: [] });
  });

  it('gate on: an ID over 0xff is mapped in xAPIC mode too, by both of its IDs', () => {
    const { system } = make({ x2apicFormat: true }, [[0x123]]);
    expect(physical(system)).toEqual([
      [0x23, 0],
      [0x123, 0],
    ]);
  });

  it('gate on: the first created keeps an alias; an x2APIC-mode APIC takes its own ID', () => {
    const options = { x2apicFormat: true };
    expect(physical(make(options, [[0x123], [0x23]]).system)).toEqual([
      [0x23, 0],
      [0x123, 0],
    ]);
    expect(physical(make(options, [[0x123], [0x23, 'x2apic']]).system)).toEqual([
      [0x23, 1],
      [0x123, 0],
    ]);
  });

  it('gate on, under an alias: a rewritten xAPIC ID does not take the slot of another', () => {
    const { system, apics } = make({ x2apicFormat: true }, [[1], [2]]);
    write(apics[1], ID, 0x01000000);
    expect(physical(system)).toEqual([[1, 0]]);
    expect(system.map().inhibits).toEqual(['APIC ID modified']);
  });

  it('an ID over 0xff is not "modified": the comparison is with its low byte', () => {
    expect(make({ x2apicFormat: true }, [[0x123]]).system.map().inhibits).toEqual([]);
  });

  it('follows every register that it says something about, at once', () => {
    const { system, apics } = make({}, [[1]]);
    const serials = [system.map().serial];
    const step = (change: () => void): void => {
      change();
      serials.push(system.map().serial);
    };
    step(() => write(apics[0], ID, 0x07000000));
    expect(physical(system)).toEqual([[7, 0]]);
    step(() => write(apics[0], LDR, 0x01000000));
    expect([...system.map().logical]).toEqual([['0', 0]]);
    step(() => write(apics[0], DFR, 0));
    expect([...system.map().logical]).toEqual([['0.0', 0]]);
    step(() => write(apics[0], SPIV, 0xff));
    expect(system.map().logicalMode).toBe('none enabled');
    step(() => apics[0].reset(true));
    step(() => enter(apics[0], 'off'));
    expect(physical(system)).toEqual([]);
    expect(new Set(serials).size).toBe(serials.length);
  });

  it('is not rebuilt for what it says nothing about', () => {
    const { system, apics } = make({}, [[1]]);
    const before = system.map().serial;
    for (const offset of [0x80, 0xb0, 0x320, 0x380, 0x350]) write(apics[0], offset, 0x31);
    write(apics[0], SPIV, 0x1fe);
    expect(system.map().serial).toBe(before);
  });
});

describe('how the map may differ from a scan: every way has a name', () => {
  const MDA = { vector: 0x41 };
  const LOGICAL = { logical: true, vector: 0x41 };
  const cases: Record<MapDifferenceName, () => { system: ApicSystem; message: ApicMessage }> = {
    'hotplug-alias': () => ({
      system: make({ x2apicFormat: true }, [[0x23], [0x123]]).system,
      message: { ...MDA, destination: 0x23 },
    }),
    'wide-id-without-gate': () => ({ system: make({}, [[0x123]]).system, message: { ...MDA, destination: 0x123 } }),
    'broadcast-of-the-other-mode': () => ({
      system: make({}, [[0, 'x2apic'], [1]]).system,
      message: { ...MDA, source: 0, destination: 0xff },
    }),
    'software-disabled': () => {
      const { system, apics } = make({}, [[0], [1, 'disabled']]);
      for (const apic of apics) write(apic, LDR, 0x01000000 << apic.apicId);
      return { system, message: { ...LOGICAL, destination: 3 } };
    },
    'odd-dfr': () => {
      const { system, apics } = make({}, [[0]]);
      write(apics[0], LDR, 0x11000000);
      write(apics[0], DFR, 0x70000000);
      return { system, message: { ...LOGICAL, destination: 0x11 } };
    },
    'physical-id-in-cluster': () => ({
      system: make({}, [[0, 'x2apic'], [1]]).system,
      message: { ...LOGICAL, destination: 0x00000003 },
    }),
    'cluster-truncated': () => {
      const { system, apics } = make({}, [[0]]);
      write(apics[0], DFR, 0);
      write(apics[0], LDR, 0x11000000);
      return { system, message: { ...LOGICAL, destination: 0x111 } };
    },
    'legacy-logical-alias': () => {
      const { system, apics } = make({ behaviour: 'kvm-legacy' }, [[0], [1]]);
      for (const apic of apics) write(apic, LDR, 0x01000000);
      return { system, message: { ...LOGICAL, destination: 1 } };
    },
    'legacy-id-of-a-state': () => {
      const { system, apics } = make({ behaviour: 'kvm@6.1' }, [[0x10, 'x2apic']]);
      setRegister(apics[0], { [ID]: 0x24000000 });
      return { system, message: { ...MDA, destination: 0x24 } };
    },
    'legacy-left-x2apic': () => {
      const { system, apics } = make({ behaviour: 'kvm@6.1', x2apicFormat: true }, [[0x10, 'x2apic']]);
      apics[0].setApicBaseFromHost(0xfee00800, 0);
      return { system, message: { ...MDA, destination: 0x10 } };
    },
  };
  for (const name of Object.keys(MAP_DIFFERENCES) as MapDifferenceName[]) {
    it(`${name}: ${MAP_DIFFERENCES[name]}`, () => {
      const { system, message } = cases[name]();
      const names = system.differences(message).map((difference) => difference.name);
      expect(names).toEqual([name]);
    });
  }

  const cpu = fc.record({
    apicId: fc.oneof(
      fc.nat(0xf),
      fc.nat(0xfff),
      fc.nat(0xf).map((high) => (high << 8) | 0x23),
    ),
    mode: fc.constantFrom<CpuSpec[1]>('off', 'disabled', 'xapic', 'x2apic'),
    id: fc.option(fc.nat(0xff), { freq: 4 }),
    ldr: fc.oneof(
      fc.constantFrom(0, 1, 2, 4, 0x11, 0x12, 0x21).map((id) => id << 24),
      fc.nat(0xffffffff),
    ),
    dfr: fc.constantFrom(0xffffffff, 0xffffffff, 0x0fffffff, 0, 0x7fffffff, 0xf0000000),
  });

  const run = (options: ApicSystemOptions, allowed: (name: MapDifferenceName | null) => boolean): void => {
    const property = fc.property(
      fc.uniqueArray(cpu, { minLength: 1, maxLength: 12, selector: ({ apicId }) => apicId }),
      fc.array(fc.tuple(fc.nat(13), fc.nat(0xffffffff), fc.boolean(), fc.integer({ min: -1, max: 11 })), {
        maxLength: 20,
      }),
      (cpus, sends) => {
        const system = new ApicSystem({ ...options, shared: false });
        for (const { apicId } of cpus) system.addApic(apicId);
        cpus.forEach(({ mode, id, ldr, dfr }, i) => {
          setRegister(system.apic(i), { [LDR]: ldr, [DFR]: dfr, ...(id === null ? {} : { [ID]: id << 24 }) });
          enter(system.apic(i), mode ?? 'xapic');
        });
        for (const [kind, any, logical, from] of sends) {
          const id = cpus[any % cpus.length].apicId;
          const wide = ((id >>> 4) << 16) | (1 << (id & 15));
          const choices = [
            id,
            id & 0xff,
            0xff,
            0xffffffff,
            wide,
            wide | 0xf,
            any & 0xff,
            any & 0xfff,
            any >>> 0,
            0x11,
            3,
            0x111,
            id ^ 0x100,
            0,
          ];
          const source = from >= 0 && from < cpus.length && cpus[from].mode !== 'off' ? { source: from } : {};
          const message = { destination: choices[kind] >>> 0, logical, vector: 0x41, ...source };
          for (const difference of system.differences(message)) {
            if (!allowed(difference.name))
              throw new Error(JSON.stringify({ difference, message, cpus, explained: system.explain(message) }));
          }
        }
      },
    );
    fc.assert(property, { numRuns: 400 });
  };

  for (const behaviour of ['kvm', 'kvm@6.1', 'kvm@6.12'] as Behaviour[]) {
    for (const x2apicFormat of [false, true]) {
      for (const broadcastQuirkDisabled of [false, true]) {
        const switches = `gate ${x2apicFormat ? 'on' : 'off'}, quirk ${broadcastQuirkDisabled ? 'off' : 'on'}`;
        it(`${behaviour}, ${switches}: no difference without a name in random machines`, () => {
          run({ behaviour, x2apicFormat, broadcastQuirkDisabled }, (name) => name !== null);
        });
      }
    }
  }

  it('hardware: no difference at all', () => {
    run({ behaviour: 'hardware' }, () => false);
  });
});
