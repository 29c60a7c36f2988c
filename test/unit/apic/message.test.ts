/**
 * One message, one decision. What a trace says is what was done, for IPIs and MSIs, rules intact or broken: `targets` used
 * to be worked out a second time, and named others than the APICs that took the interrupt. And a message is decoded once:
 * what is not part of a command (reserved bits that xAPIC mode stores, BUSY, the upper half of MSI data) changes nothing.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  ApicSystem,
  type ApicSystemOptions,
  type Behaviour,
  FROM_DEVICE,
  type LocalApic,
  makeCommand,
  type RouteEvent,
  RULE_NAMES,
} from '../../../src/apic/index.ts';
import { DFR, enter, ICR, LDR, sendIpi, sendMsi, setRegister, takers, vectors, write } from './helpers.ts';

const V = 0x41;
const NMI = 0x400;
const MSI_LOGICAL = 4;
const MSI_HINT = 8;
const SELF = 0x40000;

interface Traced {
  readonly system: ApicSystem;
  readonly apics: LocalApic[];
  readonly events: RouteEvent[];
}

function traced(options: ApicSystemOptions, ids: readonly number[]): Traced {
  const events: RouteEvent[] = [];
  const system = new ApicSystem(options, { trace: { event: (event) => event.kind === 'route' && events.push(event) } });
  const apics = ids.map((id) => system.addApic(id));
  for (const apic of apics) enter(apic, 'xapic');
  return { system, apics, events };
}

const told = ({ events }: Traced): number[] => events.at(-1)?.targets.map(({ vcpuIndex }) => vcpuIndex) ?? [];

describe('a trace names those who took it, with a rule broken too', () => {
  const flat = (options: ApicSystemOptions): Traced => {
    const made = traced({ failMapAllocation: true, ...options }, [0, 1, 2, 3]);
    made.apics.forEach((apic, i) => {
      write(apic, LDR, 1 << (24 + i));
    });
    return made;
  };

  it('vectorHashing: the first candidate', () => {
    const made = flat({ breakRules: ['vectorHashing'] });
    sendMsi(made.system, 0xf, 0x131, MSI_LOGICAL);
    expect([takers(made.apics, 0x31), told(made)]).toEqual([[0], [0]]);
  });

  it('lowestSkipsDisabled: the disabled one, which then refuses', () => {
    const made = flat({ breakRules: ['lowestSkipsDisabled'] });
    write(made.apics[0], 0xf0, 0xff);
    expect(sendMsi(made.system, 0xf, 0x130, MSI_LOGICAL)).toBe(0);
    expect([takers(made.apics, 0x30), told(made), made.events[0].result]).toEqual([[], [0], 0]);
    expect(sendMsi(made.system, 0xf, 0x131, MSI_LOGICAL)).toBe(1);
    expect([takers(made.apics, 0x31), told(made)]).toEqual([[1], [1]]);
  });

  it('redirectionHint: an MSI that has the hint reaches them all, and the message told has none', () => {
    const made = flat({ breakRules: ['redirectionHint'] });
    sendMsi(made.system, 0xf, 0x31, MSI_LOGICAL | MSI_HINT);
    expect([takers(made.apics, 0x31), told(made)]).toEqual([
      [0, 1, 2, 3],
      [0, 1, 2, 3],
    ]);
    expect(made.events[0].message.redirectionHint).toBe(false);
  });

  it('msiWideDestination: an MSI is told as it was sent', () => {
    const made = traced({ x2apicFormat: true, breakRules: ['msiWideDestination'] }, [0x23, 0x123]);
    sendMsi(made.system, 0x123, 0x31);
    expect([takers(made.apics, 0x31), told(made), made.events[0].message.destination]).toEqual([[0], [0], 0x23]);
  });
});

it('property: in random machines the targets told are those offered it, by explain and by trace', () => {
  const machine = fc.record({
    behaviour: fc.constantFrom<Behaviour[]>('kvm', 'kvm-legacy', 'hardware'),
    x2apicFormat: fc.boolean(),
    vectorHashing: fc.boolean(),
    failMapAllocation: fc.boolean(),
    breakRules: fc.subarray([...RULE_NAMES], { maxLength: 2 }),
  });
  const cpus = fc.uniqueArray(
    fc.record({
      id: fc.constantFrom(0, 1, 2, 3, 0x23, 0x100, 0x123),
      mode: fc.constantFrom('xapic', 'x2apic', 'disabled', 'off'),
      ldr: fc.constantFrom(0, 1, 2, 3, 4, 0x11, 0x12),
      dfr: fc.constantFrom(0xffffffff, 0x0fffffff),
    }),
    { selector: ({ id }) => id, minLength: 1, maxLength: 5 },
  );
  const message = fc.record({
    source: fc.integer({ min: FROM_DEVICE, max: 4 }),
    destination: fc.constantFrom(0, 1, 3, 0x0f, 0x11, 0x23, 0xff, 0x100, 0x123, 0x20003, 0xffffffff),
    logical: fc.boolean(),
    deliveryMode: fc.constantFrom(0, 1),
    vector: fc.integer({ min: 0x40, max: 0x47 }),
    shorthand: fc.constantFrom(0, 0, 0, 1, 2, 3),
    redirectionHint: fc.boolean(),
  });
  fc.assert(
    fc.property(machine, cpus, fc.array(message, { minLength: 1, maxLength: 6 }), (options, specs, messages) => {
      const events: RouteEvent[] = [];
      const system = new ApicSystem(
        { ...options, shared: false },
        { trace: { event: (event) => event.kind === 'route' && events.push(event) } },
      );
      const apics = specs.map(({ id }) => system.addApic(id));
      specs.forEach(({ mode, ldr, dfr }, i) => {
        enter(apics[i], 'xapic');
        write(apics[i], LDR, ldr << 24);
        write(apics[i], DFR, dfr);
        if (mode === 'disabled') write(apics[i], 0xf0, 0xff);
        else if (mode !== 'xapic') enter(apics[i], mode);
      });
      for (const { source, ...rest } of messages) {
        const sent = { ...rest, source: source < apics.length ? source : FROM_DEVICE };
        for (const apic of apics) while (apic.acknowledge() >= 0) apic.eoi();
        const before = system.explain(sent);
        const result = system.deliver(sent);
        const event = events.at(-1);
        const targets = event?.targets.map(({ vcpuIndex }) => vcpuIndex) ?? [];
        expect(event?.message).toEqual({ level: true, trigMode: false, ...sent });
        expect(before).toEqual({ path: event?.path, targets: event?.targets, map: event?.map, ...scanOf(event) });
        expect(event?.result).toBe(result);
        // Who is told but did not take it was software-disabled or off, and so refused.
        const took = takers(apics, sent.vector);
        expect(targets).toEqual(expect.arrayContaining(took));
        const willing = targets.filter(
          (i) => system.apic(i).snapshot().softwareEnabled && apics[i].mode !== 'disabled',
        );
        if (!options.breakRules.includes('disabledRefusesFixed'))
          expect(took).toEqual(willing.toSorted((a, b) => a - b));
        expect(Math.max(result, 0)).toBe(took.length);
      }
    }),
    { numRuns: 400 },
  );
});

const scanOf = (event: RouteEvent | undefined): object => ({ scan: event?.scan, scanTargets: event?.scanTargets });

describe('what is not part of a command changes nothing', () => {
  it('reserved bits of an xAPIC ICR, of which one is the redirection hint of a command', () => {
    const { apics } = traced({}, [0, 1, 2]);
    apics.forEach((apic, i) => {
      write(apic, LDR, 1 << (24 + i));
    });
    sendIpi(apics[0], 0x7, 0xfff32000 | 0x800 | V);
    expect(takers(apics, V)).toEqual([0, 1, 2]);
    expect(apics[0].readMmio(ICR, 4)).toBe((0xfff32000 | 0x800 | V) >>> 0);
  });

  it('bits 31:16, 14 and 13:11 of MSI data: always asserted, no shorthand, no logical destination', () => {
    const { system, apics } = traced({}, [0, 1, 2]);
    expect(sendMsi(system, 1, 0xffff3800 | V)).toBe(1);
    expect([takers(apics, V), vectors(apics[1], 0x180)]).toEqual([[1], []]);
    expect(sendMsi(system, 1, 0x8000 | (V + 1))).toBe(1);
    expect(vectors(apics[1], 0x180)).toEqual([V + 1]);
  });

  it('mask, delivery status and pin bits of an LVT entry', () => {
    const { apics } = traced({}, [0]);
    setRegister(apics[0], { 848: 0x7000 | 0x800 | V });
    expect([apics[0].deliverLocal(0x350), takers(apics, V)]).toEqual([1, [0]]);
    setRegister(apics[0], { 864: 0x8000 | (V + 1) });
    expect([apics[0].deliverLocal(0x360), vectors(apics[0], 0x180)]).toEqual([1, [V + 1]]);
  });

  it('a command in words says the same back', () => {
    const words = { vector: 0x9a, deliveryMode: 5, logical: true, trigMode: true, level: false, shorthand: 3 };
    expect(makeCommand({ ...words, redirectionHint: true })).toBe(0x1c8d9a);
    expect(makeCommand({ vector: V })).toBe(0x4041);
  });
});

describe('shorthand self', () => {
  it('of a device means nobody (KVM_BUG_ON): it takes nothing, and writes nowhere', () => {
    const { system, apics } = traced({}, [0, 1]);
    expect(system.send(FROM_DEVICE, 0, SELF | NMI)).toBe(0);
    expect(apics.map((apic) => apic.takeNmis())).toEqual([0, 0]);
  });

  it('is told as it is', () => {
    const made = traced({}, [0, 1]);
    sendIpi(made.apics[1], 0, SELF | V);
    expect(made.events).toMatchObject([
      { path: 'self', targets: [{ vcpuIndex: 1, why: 'self' }], map: null, result: 1 },
    ]);
  });
});

describe('lowest priority in behaviour hardware', () => {
  it('is arbitrated among the software-enabled APICs that are addressed, never for a bit that nobody has', () => {
    for (const vector of [0x40, 0x41, 0x42, 0x43]) {
      const { system, apics } = traced({ behaviour: 'hardware' }, [0, 1, 2]);
      apics.forEach((apic, i) => {
        write(apic, LDR, 1 << (24 + i));
      });
      write(apics[1], 0xf0, 0xff);
      expect(sendMsi(system, 0b11111, 0x100 | vector, MSI_LOGICAL)).toBe(1);
      expect(takers(apics, vector)).toEqual([[0, 2][vector % 2]]);
    }
  });
});
