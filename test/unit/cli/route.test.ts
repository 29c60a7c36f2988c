/** `apiary route`, and the rows of the demo that need no KVM: README's table. */
import { InvalidArgumentError } from 'commander';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { DELIVERY } from '../../../src/apic/index.ts';
import { route as routeCommand } from '../../../src/cli/route.ts';
import { routeCpus } from '../../../src/cli/route-options.ts';
import { hotplugRow } from '../../../src/route/hotplug.ts';
import { type RouteQuestion, route } from '../../../src/route/route.ts';

const question = (cpus: string, to: number, rest: Partial<RouteQuestion> = {}): RouteQuestion => ({
  ...{ cpus: routeCpus(cpus), to, logical: false, deliveryMode: DELIVERY.FIXED, vector: 0x41 },
  ...rest,
});
const HOTPLUG = '0:x2apic,0x23,0x123';

describe('who takes it', () => {
  it('gate off: every match by scan, since the alias drops the map', () => {
    const { path, map, answer, cpus } = route(question(HOTPLUG, 0x23, { from: 0 }), {});
    expect([path, answer]).toEqual(['scan', 2]);
    expect(map).toMatch(/no map: .*physical ID/);
    expect(cpus.map(({ takes }) => takes)).toEqual([false, true, true]);
  });

  it('gate on: one by the map, and the other is told what a scan would have done', () => {
    const { path, cpus } = route(question(HOTPLUG, 0x23, { from: 0 }), { x2apicFormat: true });
    expect(path).toBe('map');
    expect(cpus.map(({ takes, why }) => [takes, why])).toEqual([
      [false, 'its x2APIC ID is 0x0'],
      [true, 'entry of the map'],
      [false, expect.stringMatching(/a scan would find it; the hack/)],
    ]);
  });

  it.each([
    ['off', '0,1:off', 1, {}, [false, false], 'its APIC is off'],
    [
      'software-disabled',
      '0,1:disabled',
      1,
      {},
      [false, false],
      'addressed, and software-disabled: takes no such interrupt',
    ],
    ['another xAPIC ID', '0,1:id=0x9', 1, {}, [false, false], 'its xAPIC ID is 0x9'],
    ['another logical ID', '0,1:ldr=0x4', 2, { logical: true }, [false, false], 'its logical ID is 0x4, flat'],
  ] as const)('not by one that is %s', (_, cpus, to, rest, takes, why) => {
    const answer = route(question(cpus, to, rest), {});
    expect(answer.cpus.map((cpu) => cpu.takes)).toEqual(takes);
    expect(answer.cpus[1]?.why).toBe(why);
  });

  it('lowest priority picks one of the candidates, and says so of the others', () => {
    const { answer, cpus } = route(question('0,1', 3, { logical: true, deliveryMode: DELIVERY.LOWEST }), {});
    expect(answer).toBe(1);
    expect(cpus.filter(({ takes }) => takes)).toHaveLength(1);
    expect(cpus.find(({ takes }) => !takes)?.why).toBe('a candidate, and not the one picked');
  });

  it("each CPU's priority is made from its TPR and what is in service, and does not keep it from taking it", () => {
    const cpus =
      '0,1:tpr=0x53,2:isr=0x61,3:tpr=0x53:isr=0x61,4:tpr=0x63:isr=0x61,5:isr=0x71:disabled,6:x2apic:tpr=0x20';
    const answer = route(question(cpus, 2), {});
    expect(answer.cpus.map(({ ppr }) => ppr)).toEqual([0, 0x53, 0x60, 0x60, 0x63, 0x70, 0x20]);
    expect(answer.cpus.map(({ takes }) => takes)).toEqual([false, false, true, false, false, false, false]);
  });

  it('a vector in service is no vector taken, and leaves the arbitration as it was', () => {
    const lowest = { logical: true, deliveryMode: DELIVERY.LOWEST, vector: 0x61 };
    for (const vectorHashing of [true, false]) {
      const takers = ['0,1,2', '0:isr=0x61,1:isr=0x61,2:isr=0x61'].map((cpus) =>
        route(question(cpus, 7, lowest), { vectorHashing }).cpus.map(({ takes }) => takes),
      );
      expect(takers[0]).toEqual(takers[1]);
    }
  });

  it('an NMI and an INIT are taken by a software-disabled APIC', () => {
    for (const deliveryMode of [DELIVERY.NMI, DELIVERY.INIT])
      expect(route(question('0,1:disabled', 1, { deliveryMode }), {}).cpus[1]?.takes).toBe(true);
  });

  it('what a sender cannot say is noted', () => {
    expect(route(question('0,0x123', 0x123), {}).note).toMatch(/an MSI with the gate off .* 0x123 is sent as 0x23/);
    expect(route(question('0,0x123', 0x123, { from: 0 }), {}).note).toMatch(/in xAPIC mode has eight/);
    expect(route(question('0,0x123', 0x123), { x2apicFormat: true }).note).toBeUndefined();
  });

  it('a sender that is not there is an error', () => {
    expect(() => route(question('0,1', 1, { from: 7 }), {})).toThrow(RangeError);
  });
});

describe('CPUs as they are written', () => {
  it('an ID and what differs', () => {
    expect(routeCpus('0x123:x2apic')[0]).toMatchObject({ apicId: 0x123, mode: 'x2apic', softwareEnabled: true });
    expect(routeCpus('0,1:cluster:ldr=0x12')[1]).toMatchObject({ cluster: true, logicalId: 0x12 });
    expect(routeCpus('0:tpr=0x50:isr=0x61')[0]).toMatchObject({ tpr: 0x50, inService: 0x61 });
  });
  it.each(['', 'x', '0,0', '0:zz', '0x10000', '1:ldr=0x100', '1:tpr=0x100', '1:isr=0xf'])('%j is a mistake', (text) => {
    expect(() => routeCpus(text)).toThrow(InvalidArgumentError);
  });
});

describe('the command', () => {
  afterEach(() => vi.restoreAllMocks());
  const options = {
    cpus: routeCpus(HOTPLUG),
    gate: 'off',
    broadcastQuirk: true,
    to: 0x23,
    from: 0,
    mode: 0,
    vector: 0x41,
  } as const;
  const run = async (more: object): Promise<string> => {
    let text = '';
    vi.spyOn(process.stdout, 'write').mockImplementation((chunk) => {
      text += chunk;
      return true;
    });
    expect(await routeCommand({ ...options, ...more })).toBe(0);
    return text;
  };

  it('all behaviours side by side, within 80 columns', async () => {
    const text = await run({});
    expect(text).toMatch(/kvm@6\.1 .*kvm@6\.12 .*hardware/);
    for (const line of text.split('\n')) expect(line.length, line).toBeLessThanOrEqual(80);
  });
  it('a broken rule changes the answer', async () => {
    expect(await run({ gate: 'on', behaviour: 'kvm', break: 'firstAliasWins' })).toMatch(/0x123 +│ xapic +│ takes/);
  });
  it('lowest priority shows who has which, with one behaviour and with all, and other modes do not', async () => {
    const lowest = { cpus: routeCpus('0:tpr=0x50,1:isr=0x61,2'), to: 7, from: undefined, logical: true, mode: 1 };
    expect(await run({ ...lowest, behaviour: 'hardware' })).toMatch(/CPU .*PPR.*0x0 .*0x50.*0x1 .*0x60.*0x2 .*0x0 /s);
    const all = await run(lowest);
    expect(all).toMatch(/0x1 +│ xapic │ 0x60 │/);
    for (const line of all.split('\n')) expect(line.length, line).toBeLessThanOrEqual(80);
    expect(await run({ ...lowest, mode: 0 })).not.toContain('PPR');
  });
  it('the same for programs', async () => {
    const { answers } = JSON.parse(await run({ json: true, behaviour: 'kvm@6.1' })) as { answers: { path: string }[] };
    expect(answers.map(({ path }) => path)).toEqual(['map']);
  });
});

describe('the demo by the model alone is what the guest reports', () => {
  const ALIASES = [0x23, 0x123];
  it.each([
    [
      'kvm',
      false,
      [
        [ALIASES, 'scan'],
        [[0x123], 'scan'],
        [[0], 'scan'],
      ],
      [0x123],
    ],
    [
      'kvm-legacy',
      false,
      [
        [[0x23], 'map'],
        [[0x123], 'map'],
        [[0], 'scan'],
      ],
      [0x123],
    ],
    [
      'hardware',
      false,
      [
        [ALIASES, 'scan'],
        [ALIASES, 'scan'],
        [[0, ...ALIASES], 'scan'],
      ],
      [0x123, 0x23],
    ],
    [
      'kvm',
      true,
      [
        [[0x23], 'map'],
        [[0x123], 'map'],
        [[0], 'scan'],
      ],
      [0x123],
    ],
    [
      'kvm-legacy',
      true,
      [
        [[0x23], 'map'],
        [[0x123], 'map'],
        [[0], 'scan'],
      ],
      [0x123],
    ],
    [
      'hardware',
      true,
      [
        [ALIASES, 'scan'],
        [ALIASES, 'scan'],
        [[0, ...ALIASES], 'scan'],
      ],
      [0x123, 0x23],
    ],
  ] as const)('%s, gate %s', (behaviour, x2apicFormat, took, started) => {
    const row = hotplugRow({ behaviour, x2apicFormat });
    expect(row.took.map(({ cpus, path }) => [cpus, path])).toEqual(took);
    expect(row.started).toEqual(started);
  });
});
