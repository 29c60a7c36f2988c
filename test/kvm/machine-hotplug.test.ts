/**
 * The project's main claim, on the real KVM: a CPU with APIC ID 0x123 is added to 0 and 0x23, and who takes which interrupt
 * depends on the gate and on whose rules are followed. The rows are what `apiary demo` prints; the in-kernel APIC is judge.
 */
import { Machine, type MachineOptions } from 'apiary';
import { expect, test } from 'vitest';
import { describeKvm, GUEST_OK, guestImage, SLOW_HOST_MS } from './support.ts';

const ADDED = 0x123;
const TEST_VECTOR = 0x61;

interface Report {
  readonly status: number;
  readonly lines: readonly string[];
  /** 'physical:0x00000123' -> who took it while the others were in xAPIC mode, and how it went. */
  readonly took: ReadonlyMap<string, string>;
}

async function hotplugRun(options: MachineOptions): Promise<Report> {
  const machine = await Machine.create({
    cpus: [0, 0x23],
    hotpluggable: [ADDED],
    timeoutMs: SLOW_HOST_MS,
    trace: options.apic !== 'kernel',
    ...options,
  });
  const paths: string[] = [];
  machine.on('trace', (event) => {
    if (event.kind === 'route' && event.message.vector === TEST_VECTOR) paths.push(event.path);
  });
  let text = '';
  const steps: [string, () => Promise<void>][] = [
    ['ready for removal', () => machine.unplug(ADDED)],
    ['ready for return', () => machine.hotplug(ADDED)],
  ];
  machine.on('serial', (chunk) => {
    text += chunk.toString('latin1');
    if (steps.length > 0 && text.includes(steps[0][0])) void steps.shift()?.[1]();
  });
  try {
    await machine.load(guestImage('hotplug'));
    const running = machine.run();
    await machine.hotplug(ADDED);
    const { status } = await running;
    const lines = text.split('\n').filter((line) => /^(hotplug: (cpu|eject)|ipi )/.test(line));
    const took = new Map<string, string>();
    for (const [index, line] of lines.filter((each) => each.startsWith('ipi ')).entries()) {
      const match = /^ipi phase=(\S+) dest=(\S+) took=(\S+)$/.exec(line);
      if (match?.[1] === 'xapic') took.set(match[2], [match[3], paths[index]].filter(Boolean).join(' '));
    }
    return { status, lines, took };
  } finally {
    await machine.stop();
  }
}

/** To 0x23, to 0x123, to all: who took it, by map or by scan; and whom INIT and SIPI to 0x123 started over besides. */
const rows: readonly (readonly [string, MachineOptions, string, string, string, string])[] = [
  ['gate off, kvm', {}, '0x23,0x123 scan', '0x123 scan', '0x0 scan', '-'],
  ['gate off, kvm-legacy', { behaviour: 'kvm-legacy' }, '0x23 map', '0x123 map', '0x0 scan', '-'],
  [
    'gate off, hardware',
    { behaviour: 'hardware' },
    '0x23,0x123 scan',
    '0x23,0x123 scan',
    '0x0,0x23,0x123 scan',
    '0x23',
  ],
  ['gate off, kernel', { apic: 'kernel' }, '0x23,0x123', '0x123', '0x0', '-'],
  ['gate on, kvm', { x2apicApi: { use32bitIds: true } }, '0x23 map', '0x123 map', '0x0 scan', '-'],
  [
    'gate on, kvm-legacy',
    { x2apicApi: { use32bitIds: true }, behaviour: 'kvm-legacy' },
    '0x23 map',
    '0x123 map',
    '0x0 scan',
    '-',
  ],
  [
    'gate on, hardware',
    { x2apicApi: { use32bitIds: true }, behaviour: 'hardware' },
    '0x23,0x123 scan',
    '0x23,0x123 scan',
    '0x0,0x23,0x123 scan',
    '0x23',
  ],
  ['gate on, kernel', { x2apicApi: { use32bitIds: true }, apic: 'kernel' }, '0x23', '0x123', '0x0', '-'],
  // KVM's promise for gate on ("aliases are ignored") is the map's: when its allocation fails, the scan matches both.
  [
    'gate on, kvm, no memory for the map',
    { x2apicApi: { use32bitIds: true }, failMapAllocation: true },
    '0x23,0x123 scan',
    '0x123 scan',
    '0x0 scan',
    '-',
  ],
  // Without the broadcast quirk, 0xff from x2APIC mode is an ordinary ID, and 0xffffffff still is the broadcast.
  [
    'gate on, kvm, quirk off',
    { x2apicApi: { use32bitIds: true, disableBroadcastQuirk: true } },
    '0x23 map',
    '0x123 map',
    '0x0 scan',
    '-',
  ],
];

describeKvm('hot-adding APIC ID 0x123 beside 0x23', () => {
  test.each(rows)('%s', async (_name, options, to23, to123, toAll, restarted) => {
    const { status, lines, took } = await hotplugRun(options);
    expect(status).toBe(GUEST_OK);
    expect(lines[0]).toBe(`hotplug: cpu id=0x123 xapic-id=0x23 started=1 restarted=${restarted}`);
    expect(took.get('physical:0x00000023')).toBe(to23);
    expect(took.get('physical:0x00000123')).toBe(to123);
    expect(took.get('physical:0xffffffff')).toBe(toAll);
  });

  test.each([
    ['gate off', {}],
    ['gate on', { use32bitIds: true }],
    ['gate on, quirk off', { use32bitIds: true, disableBroadcastQuirk: true }],
    ['gate off, quirk off', { disableBroadcastQuirk: true }],
  ])('%s: kvm and the kernel give the same transcript, removal and return included', async (_name, x2apicApi) => {
    const ours = await hotplugRun({ x2apicApi });
    const kernels = await hotplugRun({ x2apicApi, apic: 'kernel' });
    expect(ours.lines).toEqual(kernels.lines);
    expect(ours.lines.length).toBeGreaterThan(20);
  });

  test('one thread gives the same transcript as four', async () => {
    const one = await hotplugRun({ threads: 1 });
    const four = await hotplugRun({ threads: 4 });
    expect(one.lines).toEqual(four.lines);
  });
});
