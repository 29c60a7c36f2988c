/** IPIs: delivery modes, shorthands, logical destinations, INIT and SIPI, lowest priority (SDM vol. 3A, 12.6-12.8; KVM). */
import { describe, expect, it } from 'vitest';
import { APIC_EVENT, ApicSystem, type LocalApic } from '../../../src/apic/index.ts';
import {
  type CpuSpec,
  DFR,
  ICR,
  LDR,
  make,
  one,
  sendIpi,
  sendMsi,
  TMR,
  takers,
  vectors,
  write,
  X2_ICR,
} from './helpers.ts';

// ICR and MSI bits, restated.
const FIXED = 0x000;
const LOWEST = 0x100;
const SMI = 0x200;
const REMOTE_READ = 0x300;
const NMI = 0x400;
const INIT = 0x500;
const STARTUP = 0x600;
const EXTINT = 0x700;
const LOGICAL = 0x800;
const ASSERT = 0x4000;
const LEVEL = 0x8000;
const SELF = 0x40000;
const ALL = 0x80000;
const OTHERS = 0xc0000;
const MSI_LOGICAL = 4;
const MSI_HINT = 8;
const V = 0x41;

const three: readonly CpuSpec[] = [[0], [1], [2]];

describe('shorthands', () => {
  it.each([
    ['self', SELF, [0]],
    ['all including self', ALL, [0, 1, 2]],
    ['all but self', OTHERS, [1, 2]],
  ])('%s, in both modes', (_name, shorthand, expected) => {
    for (const mode of ['xapic', 'x2apic'] as const) {
      const { apics } = make({}, [
        [0, mode],
        [1, mode],
        [2, mode],
      ]);
      sendIpi(apics[0], 2, shorthand | V);
      expect(takers(apics, V)).toEqual(expected);
    }
  });

  it('a self-IPI arrives after the ID was rewritten: self is not an address', () => {
    const { apics } = make({}, three);
    apics[1].writeMmio(0x20, 4, 0xee000000);
    sendIpi(apics[1], 0, SELF | V);
    expect(takers(apics, V)).toEqual([1]);
  });

  it('all but self leaves out the sender, not who shares its ID', () => {
    const { apics } = make({}, three);
    apics[1].writeMmio(0x20, 4, 0);
    sendIpi(apics[0], 0, OTHERS | V);
    expect(takers(apics, V)).toEqual([1, 2]);
  });

  it('an absent (disabled) APIC is nobody', () => {
    const { apics } = make({}, [[0], [1, 'off'], [2]]);
    sendIpi(apics[0], 0, ALL | NMI);
    expect(apics.map((apic) => apic.takeNmis())).toEqual([1, 0, 1]);
  });
});

describe('delivery modes', () => {
  it('fixed and lowest set IRR; the others do not', () => {
    const { system, apics } = make({ smm: true }, [[0]]);
    const results = [FIXED, LOWEST, SMI, REMOTE_READ, NMI, INIT, STARTUP, EXTINT].map((mode, i) =>
      sendMsi(system, 0, mode | (0x40 + i)),
    );
    expect(results).toEqual([1, 1, 1, 1, 1, 1, 1, 0]);
    expect(vectors(apics[0], 0x200)).toEqual([0x40, 0x41]);
    expect([apics[0].takeNmis(), apics[0].takeSmis()]).toEqual([1, 1]);
  });

  it('an SMI counts only where the host has SMM', () => {
    expect(sendMsi(one({ smm: false }).system, 0, SMI)).toBe(0);
  });

  it('a remote read ends a HLT', () => {
    const { system, apic } = one();
    sendMsi(system, 0, REMOTE_READ);
    expect(apic.takeEvents()).toBe(APIC_EVENT.UNHALT);
  });

  it('NMIs are counted, whatever the vector', () => {
    const { apics } = make({}, three);
    for (let i = 0; i < 3; i++) sendIpi(apics[0], 1, NMI | i);
    expect([apics[1].hasNmi(), apics[1].takeNmis(), apics[1].hasNmi()]).toEqual([true, 3, false]);
  });

  it('a level-triggered fixed IPI sets TMR; without assert it is dropped', () => {
    const { apics } = make({}, three);
    sendIpi(apics[0], 1, LEVEL | ASSERT | V);
    sendIpi(apics[0], 2, LEVEL | V);
    expect(takers(apics, V)).toEqual([1]);
    expect(vectors(apics[1], TMR)).toEqual([V]);
  });

  it('the wake-up comes after the bits', () => {
    const seen: number[] = [];
    const system: ApicSystem = new ApicSystem({}, { wake: (i) => seen.push(system.apic(i).highestRequested()) });
    system.addApic(0).writeMmio(0xf0, 4, 0x1ff);
    sendMsi(system, 0, V);
    expect(seen).toEqual([V]);
  });
});

describe('INIT and SIPI (kvm_apic_accept_events)', () => {
  it('INIT then SIPI: both are taken, with the start page', () => {
    const { apics } = make({}, three);
    sendIpi(apics[0], 1, INIT | LEVEL | ASSERT);
    sendIpi(apics[0], 1, STARTUP | 0x9a);
    expect(apics[1].hasEvents()).toBe(true);
    expect(apics[1].takeEvents()).toBe(APIC_EVENT.INIT | APIC_EVENT.SIPI);
    expect(apics[1].sipiVector).toBe(0x9a);
    expect(apics[1].hasEvents()).toBe(false);
  });

  it('the second SIPI of INIT-SIPI-SIPI is dropped by a CPU that runs already', () => {
    const { apics } = make({}, three);
    sendIpi(apics[0], 1, STARTUP | 0x9a);
    expect(apics[1].takeEvents(false)).toBe(0);
  });

  it('INIT discards a SIPI that still waits', () => {
    const { apics } = make({}, three);
    sendIpi(apics[0], 1, STARTUP | 0x9a);
    sendIpi(apics[0], 1, INIT);
    expect(apics[1].takeEvents()).toBe(APIC_EVENT.INIT);
  });

  it('a level-triggered INIT without assert is dropped', () => {
    const { apics } = make({}, three);
    sendIpi(apics[0], 1, INIT | LEVEL);
    expect(apics[1].hasEvents()).toBe(false);
  });

  it('to all but self (ACRN lost these once)', () => {
    const { apics } = make({}, three);
    sendIpi(apics[0], 0, OTHERS | INIT | ASSERT);
    sendIpi(apics[0], 0, OTHERS | STARTUP | 8);
    expect(apics.map((apic) => apic.takeEvents())).toEqual([0, 3, 3]);
  });

  it('a software-disabled CPU with a wide ID can be started by that ID: the hotplug path', () => {
    const { apics } = make({ x2apicFormat: true }, [
      [0, 'x2apic'],
      [0x123, 'disabled'],
    ]);
    sendIpi(apics[0], 0x123, INIT | LEVEL | ASSERT);
    sendIpi(apics[0], 0x123, STARTUP | 8);
    expect(apics[1].takeEvents()).toBe(APIC_EVENT.INIT | APIC_EVENT.SIPI);
  });

  it('a restored event can be put back', () => {
    const { apic } = one();
    apic.postEvents(APIC_EVENT.SIPI, 0x77);
    expect([apic.takeEvents(), apic.sipiVector]).toEqual([APIC_EVENT.SIPI, 0x77]);
  });
});

describe('logical destinations', () => {
  const logical = (ldrs: readonly number[], dfr: number, options = {}) => {
    const made = make(
      options,
      ldrs.map((_, i) => [i] as const),
    );
    made.apics.forEach((apic, i) => {
      write(apic, DFR, dfr);
      write(apic, LDR, ldrs[i] << 24);
    });
    return made;
  };

  it('flat: one bit each, any of eight', () => {
    const { system, apics } = logical([1, 2, 4, 8], 0xffffffff);
    expect(sendMsi(system, 0b1010, V, MSI_LOGICAL)).toBe(2);
    expect(takers(apics, V)).toEqual([1, 3]);
  });

  it('cluster: the cluster must be equal, then any of four bits', () => {
    const { system, apics } = logical([0x11, 0x12, 0x21, 0x31], 0x0fffffff);
    expect(sendMsi(system, 0x13, V, MSI_LOGICAL)).toBe(2);
    expect(takers(apics, V)).toEqual([0, 1]);
    expect(system.map()).toMatchObject({ logicalMode: 'cluster' });
  });

  it('a shared bit or several bits: no logical map, and the scan finds them all', () => {
    for (const ldrs of [
      [1, 1],
      [1, 3],
    ]) {
      const { system, apics } = logical(ldrs, 0xffffffff);
      expect(system.map()).toMatchObject({ logicalMode: 'disabled', inhibits: ['logical ID aliased'] });
      expect(sendMsi(system, 1, V, MSI_LOGICAL)).toBe(2);
      expect(takers(apics, V)).toEqual([0, 1]);
    }
  });

  it('an odd DFR counts as cluster in the map, and matches nothing in a scan', () => {
    const odd = logical([0x11, 0x12], 0x70000000);
    expect(odd.system.map().logicalMode).toBe('cluster');
    expect(sendMsi(odd.system, 0x11, V, MSI_LOGICAL)).toBe(1);
    const scanned = logical([0x11, 0x12], 0x70000000, { failMapAllocation: true });
    expect(sendMsi(scanned.system, 0x11, V, MSI_LOGICAL)).toBe(-1);
  });

  it('0xff is broadcast to APICs in xAPIC mode, whatever their LDR', () => {
    const { system, apics } = logical([0, 0x11, 8], 0xffffffff);
    expect(sendMsi(system, 0xff, V, MSI_LOGICAL)).toBe(3);
    expect(takers(apics, V)).toEqual([0, 1, 2]);
  });

  it('the x2APIC broadcast reaches everyone in x2APIC mode, quirk on or off, from an IPI and from an MSI', () => {
    for (const broadcastQuirkDisabled of [false, true]) {
      const { system, apics } = make({ broadcastQuirkDisabled, x2apicFormat: true }, [
        [0, 'x2apic'],
        [1, 'x2apic'],
        [2, 'x2apic'],
      ]);
      sendIpi(apics[0], 0xffffffff, V);
      expect(takers(apics, V)).toEqual([0, 1, 2]);
      expect([system.explain({ source: 0, destination: 0xffffffff, vector: V }).path]).toEqual(['scan']);
      // An MSI to it: without the quirk a scan; with it the map has no such ID.
      expect(sendMsi(system, 0xffffffff, V + 1)).toBe(broadcastQuirkDisabled ? 3 : 0);
    }
  });

  it('x2APIC: a cluster is 16 consecutive IDs', () => {
    const { apics } = make({}, [
      [0, 'x2apic'],
      [0x20, 'x2apic'],
      [0x21, 'x2apic'],
      [0x121, 'x2apic'],
    ]);
    sendIpi(apics[0], 0x00020003, LOGICAL | V);
    expect(takers(apics, V)).toEqual([1, 2]);
    sendIpi(apics[0], 0x00120002, LOGICAL | (V + 1));
    expect(takers(apics, V + 1)).toEqual([3]);
  });

  it('x2APIC: a cluster past the last ID is nobody, and so are its members past the end', () => {
    const { system } = make({}, [
      [0, 'x2apic'],
      [0x101, 'x2apic'],
    ]);
    expect(system.deliver({ source: 0, destination: 0x00990001, logical: true, vector: V })).toBe(0);
    expect(system.deliver({ source: 0, destination: 0x0010fffd, logical: true, vector: V })).toBe(0);
    expect(system.deliver({ source: 0, destination: 0x0010ffff, logical: true, vector: V })).toBe(1);
  });

  it('mixed modes: no logical map; each APIC compares in its own mode', () => {
    const { system, apics } = make({}, [[0], [1, 'x2apic']]);
    write(apics[0], LDR, 0x02000000);
    expect(system.map().logicalMode).toBe('disabled');
    expect(sendMsi(system, 2, V, MSI_LOGICAL)).toBe(2); // bit 1 of flat, and member 1 of cluster 0
    expect(takers(apics, V)).toEqual([0, 1]);
  });

  it('with no software-enabled APIC nobody is addressed, and the map says so', () => {
    const { system } = make({}, [[0, 'disabled']]);
    expect(system.map().logicalMode).toBe('none enabled');
    expect(sendMsi(system, 1, NMI, MSI_LOGICAL)).toBe(0);
  });
});

describe('lowest priority', () => {
  const flat = (options = {}) => {
    const made = make(options, [[0], [1], [2], [3]]);
    made.apics.forEach((apic, i) => {
      write(apic, LDR, 1 << (24 + i));
    });
    return made;
  };

  it('vector hashing picks the (vector mod n)th of the addressed bits', () => {
    const { system, apics } = flat();
    for (let vector = 0x40; vector < 0x46; vector++) {
      expect(sendMsi(system, 0b1101, LOWEST | vector, MSI_LOGICAL)).toBe(1);
      expect(takers(apics, vector)).toEqual([[0, 2, 3][vector % 3]]);
    }
  });

  it('through the map it counts bits, even those that nobody has', () => {
    const { system, apics } = flat();
    expect(sendMsi(system, 0b11110000, LOWEST | V, MSI_LOGICAL)).toBe(0);
    expect(sendMsi(system, 0b00010001, LOWEST | 0x41, MSI_LOGICAL)).toBe(0); // 0x41 mod 2 is the bit that nobody has
    expect(sendMsi(system, 0b00010001, LOWEST | 0x42, MSI_LOGICAL)).toBe(1);
    expect(takers(apics, 0x42)).toEqual([0]);
  });

  it('by scan it counts the software-enabled APICs that match', () => {
    const { system, apics } = flat({ failMapAllocation: true });
    apics[1].writeMmio(0xf0, 4, 0xff);
    for (let vector = 0x42; vector < 0x46; vector++) {
      expect(sendMsi(system, 0b1111, LOWEST | vector, MSI_LOGICAL)).toBe(1);
      expect(takers(apics, vector)).toEqual([[0, 2, 3][vector % 3]]);
    }
  });

  it('the redirection hint of an MSI asks for it, in any delivery mode', () => {
    const { system, apics } = flat();
    expect(sendMsi(system, 0b1111, NMI | 0x42, MSI_LOGICAL | MSI_HINT)).toBe(1);
    expect(apics.map((apic) => apic.takeNmis())).toEqual([0, 0, 1, 0]);
  });

  it('without hashing, the one that took the fewest: round robin', () => {
    for (const failMapAllocation of [false, true]) {
      const { system, apics } = flat({ vectorHashing: false, failMapAllocation });
      for (let i = 0; i < 4; i++) sendMsi(system, 0b0111, LOWEST | (0x40 + i), MSI_LOGICAL);
      expect([0x40, 0x41, 0x42, 0x43].map((vector) => takers(apics, vector))).toEqual([[0], [1], [2], [0]]);
    }
  });

  it('without hashing, INIT, power-up and a restored state forget what an APIC was offered before', () => {
    const start: Record<string, (apic: LocalApic) => void> = {
      INIT: (apic) => apic.reset(true),
      'power-up': (apic) => apic.reset(false),
      'a state': (apic) => apic.setState(apic.getState()),
    };
    for (const [name, act] of Object.entries(start)) {
      const { system, apics } = flat({ vectorHashing: false });
      for (let i = 0; i < 3; i++) sendMsi(system, 0b0001, LOWEST | (0x40 + i), MSI_LOGICAL);
      sendMsi(system, 0b0010, LOWEST | 0x44, MSI_LOGICAL);
      act(apics[0]);
      write(apics[0], 0xf0, 0x1ff);
      write(apics[0], LDR, 0x01000000);
      sendMsi(system, 0b0011, LOWEST | 0x51, MSI_LOGICAL);
      expect([name, takers(apics, 0x51)]).toEqual([name, [0]]);
    }
  });

  it('to physical 0xff it becomes fixed, and reaches everyone', () => {
    const { system, apics } = flat();
    expect(sendMsi(system, 0xff, LOWEST | V)).toBe(4);
    expect(takers(apics, V)).toEqual([0, 1, 2, 3]);
  });

  it('... but with the redirection hint one is picked all the same, and an NMI becomes a fixed interrupt', () => {
    const { system, apics } = flat();
    expect(sendMsi(system, 0xff, NMI | 0x42, MSI_HINT)).toBe(1);
    expect(takers(apics, 0x42)).toEqual([2]);
    expect(apics.some((apic) => apic.hasNmi())).toBe(false);
  });
});

describe('what KVM_SIGNAL_MSI answers', () => {
  it('-1 when a scan meets nobody, 0 when the map knows that there is nobody', () => {
    expect(sendMsi(make({}, three).system, 9, V)).toBe(0);
    expect(sendMsi(make({ failMapAllocation: true }, three).system, 9, V)).toBe(-1);
  });

  it('the number of APICs that took it, and 0 when the one it was for refused', () => {
    const { system } = make({}, [[0], [1, 'disabled'], [2]]);
    expect(sendMsi(system, 0xff, V)).toBe(2);
    expect(sendMsi(system, 1, V)).toBe(0);
  });

  it('gate on: address_hi[7:0] must be zero, else -EINVAL; gate off: address_hi is not looked at', () => {
    expect(make({ x2apicFormat: true }, three).system.signalMsi(0xfee01000, 0x101, V)).toBe(-22);
    expect(make({}, three).system.signalMsi(0xfee01000, 0x101, V)).toBe(1);
  });

  it('the address base is not looked at', () => {
    expect(make({}, three).system.signalMsi(0x00001000, 0, V)).toBe(1);
  });
});

describe('the trace', () => {
  it('says who sent what, by which path, who matched and why', () => {
    const events: unknown[] = [];
    const system = new ApicSystem({}, { trace: { event: (event) => event.kind === 'route' && events.push(event) } });
    for (const id of [0, 0x23, 0x123]) system.addApic(id).writeMmio(0xf0, 4, 0x1ff);
    system.apic(0).writeMmio(0x310, 4, 0x23000000);
    system.apic(0).writeMmio(ICR, 4, V);
    system.trace = null;
    sendMsi(system, 0, V);
    expect(events).toMatchObject([
      {
        path: 'scan',
        map: null,
        scan: [
          { vcpuIndex: 1, why: 'xAPIC ID' },
          { vcpuIndex: 2, why: 'xAPIC ID' },
        ],
        scanTargets: [1, 2],
        message: { source: 0, destination: 0x23, vector: V, logical: false },
        result: 2,
      },
    ]);
  });
});

it('an IPI to an ID that nobody has harms nothing', () => {
  for (const options of [{}, { failMapAllocation: true }, { behaviour: 'hardware' as const }]) {
    const { apics } = make(options, [[0, 'x2apic']]);
    for (const destination of [1, 0xfe, 0x100, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xfffffffe]) {
      for (const low of [V, V | LOGICAL, V | LOWEST | LOGICAL, INIT, STARTUP]) {
        expect(apics[0].writeMsr(X2_ICR, low, destination)).toBe(true);
      }
    }
    expect(apics[0].hasEvents()).toBe(false);
  }
});
