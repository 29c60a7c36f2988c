/** Traces on disk: valid JSON at every length, tracks named once, failures told once. */
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { TraceEvent } from '../../../src/machine/trace.ts';
import { TraceFile } from '../../../src/trace/trace-file.ts';

const IDS = [0, 0x23, 0x123];
let directory = '';
let path = '';

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'apiary-trace-'));
  path = join(directory, 'trace.json');
});

afterEach(() => rmSync(directory, { recursive: true }));

const message = {
  source: 0,
  destination: 0x23,
  logical: false,
  deliveryMode: 0,
  vector: 0x61,
  trigMode: false,
  level: true,
  shorthand: 0,
  redirectionHint: false,
};
type Routed = Extract<TraceEvent, { kind: 'route' }>;
const event = (change: Partial<Routed> = {}): Routed => ({
  kind: 'route',
  message,
  path: 'map',
  targets: [{ vcpuIndex: 1, why: 'entry of the map' }],
  map: [1],
  scan: [{ vcpuIndex: 1, why: 'its xAPIC ID' }],
  scanTargets: [1],
  result: 1,
  nanos: 5_000_000,
  ...change,
});

interface Item {
  readonly name: string;
  readonly ph: string;
  readonly tid?: number;
  readonly ts?: number;
  readonly args?: Record<string, unknown>;
}

function written(...events: TraceEvent[]): Item[] {
  const file = new TraceFile(path, { apicIdOf: (vcpuIndex) => IDS[vcpuIndex], startNanos: 5_000_000 });
  for (const each of events) file.write(each);
  file.close();
  return JSON.parse(readFileSync(path, 'utf8')) as Item[];
}

describe('TraceFile', () => {
  test('without events it is valid JSON that names the process', () => {
    expect(written().map(({ name }) => name)).toEqual(['process_name', 'thread_name', 'thread_sort_index']);
  });

  test('times begin with the process: what happened before the file was opened is not before 0', () => {
    const nanos = Number(process.hrtime.bigint());
    const file = new TraceFile(path, { apicIdOf: () => 0 });
    file.write({ kind: 'exits', vcpuIndex: 0, counts: { IO: 1 }, nanos });
    file.close();
    const items = JSON.parse(readFileSync(path, 'utf8')) as Item[];
    expect(items.at(-1)?.ts).toBeGreaterThan(0);
  });

  test('exits are a counter of their vCPU', () => {
    const counter = written({ kind: 'exits', vcpuIndex: 1, counts: { IO: 12, HLT: 3 }, nanos: 5_004_000 }).at(-1);
    expect(counter).toEqual({
      name: 'exits of vCPU 1 (APIC ID 0x23)',
      ph: 'C',
      pid: 1,
      ts: 4,
      args: { IO: 12, HLT: 3 },
    });
  });

  test('a message is a slice on its sender, and one on each that takes it, a microsecond later, with an arrow between', () => {
    const items = written(event(), event({ nanos: 5_002_500 })).filter(({ ph }) => ph !== 'M');
    expect(items.slice(0, 4).map(({ ph, tid, ts }) => [ph, tid, ts])).toEqual([
      ['X', 0, 0],
      ['s', 0, 0],
      ['X', 1, 1],
      ['f', 1, 1],
    ]);
    expect(items[4]).toMatchObject({ ph: 'X', ts: 2.5 });
    expect(items[0]).toMatchObject({
      name: '0x61 to 0x23',
      args: {
        tracepoint: 'kvm_apic_ipi',
        destination: '0x23',
        destinationMode: 'physical',
        trigger: 'edge',
        path: 'map',
        result: 1,
        targets: 'vCPU 1 (APIC ID 0x23): entry of the map',
        scan: 'vCPU 1 (APIC ID 0x23): its xAPIC ID',
      },
    });
  });

  test('by scan, those whom the scan picked took it; nobody is nobody', () => {
    const why = 'its xAPIC ID';
    const [one, none] = written(
      event({ path: 'scan', map: null, targets: [1, 2].map((vcpuIndex) => ({ vcpuIndex, why })) }),
      event({ path: 'scan', map: null, scan: [], targets: [], result: -1 }),
    ).filter(({ args }) => args?.targets !== undefined);
    expect(one.args?.targets).toBe('vCPU 1 (APIC ID 0x23): its xAPIC ID; vCPU 2 (APIC ID 0x123): its xAPIC ID');
    expect(none.args).toMatchObject({ targets: 'nobody', scan: 'no match', result: -1 });
  });

  test('messages of devices have a track of their own; every track is named once', () => {
    const items = written(event({ message: { ...message, source: -1 } }), event(), event());
    const names = items.filter(({ name }) => name === 'thread_name').map(({ tid, args }) => [tid, args?.name]);
    expect(names).toEqual([
      [1_000_000, 'devices and MSIs'],
      [1, 'vCPU 1 (APIC ID 0x23)'],
      [0, 'vCPU 0 (APIC ID 0x0)'],
    ]);
  });

  test('10,000 events are valid JSON, too', () => {
    const events = Array.from({ length: 10_000 }, (_, index) => event({ nanos: 5_000_000 + index * 1000 }));
    expect(written(...events).filter(({ ph }) => ph === 's')).toHaveLength(10_000);
  });

  test('keeps the rules of the Trace Event Format, whatever happened', () => {
    const at = { nanos: 5_000_000 };
    const kinds: TraceEvent[] = [
      event(),
      event({ targets: [], message: { ...message, shorthand: 3 } }),
      { ...at, kind: 'accept', vcpuIndex: 1, deliveryMode: 4, vector: 0, levelTriggered: false, taken: true },
      { ...at, kind: 'eoi', vcpuIndex: 1, vector: 0x41 },
      { ...at, kind: 'timer', vcpuIndex: 2, vector: 0x41, masked: true },
      { ...at, kind: 'register', vcpuIndex: 0, register: 'SVR', value: 0x1ff },
      { ...at, kind: 'map', serial: 3, reason: 'aliased' },
      { ...at, kind: 'inject', vcpuIndex: 0, vector: 0x30, from: 'pic' },
      { ...at, kind: 'nmi', vcpuIndex: 0 },
      { ...at, kind: 'state', vcpuIndex: 0, state: 'halted' },
      { ...at, kind: 'pic', level: true },
      { ...at, kind: 'hotplug', what: 'plug', apicId: 0x123 },
    ];
    const items = written(...kinds);
    const named = new Set(items.filter(({ name }) => name === 'thread_name').map(({ tid }) => tid));
    for (const { ph, name, tid, ts } of items) {
      expect(['M', 'X', 's', 'f']).toContain(ph);
      expect(name).not.toBe('');
      if (ph === 'M') continue;
      expect(named.has(tid)).toBe(true);
      expect(ts).toBeGreaterThanOrEqual(0);
    }
    const titles = items.filter(({ ph }) => ph === 'X').map(({ name }) => name);
    expect(titles).toEqual([
      '0x61 to 0x23',
      '0x61 to 0x23',
      '0x61 to all but self',
      'accepts NMI',
      'EOI 0x41',
      'timer ran out, masked',
      'SVR = 0x1ff',
      'no map: aliased',
      'takes 0x30 of the PIC',
      'takes NMI',
      'HLT',
      'PIC INT high',
      'plug 0x123',
    ]);
  });

  test('a file that cannot be opened is a mistake with a reason', () => {
    expect(() => new TraceFile(join(directory, 'no', 'file'), { apicIdOf: () => 0 })).toThrow(
      /^cannot write trace .*: ENOENT; give a file that can be written$/,
    );
  });

  test('a full disk is told once, and ends nothing else', () => {
    const told: string[] = [];
    const file = new TraceFile('/dev/full', { apicIdOf: () => 0, failed: (error) => told.push(error.message) });
    for (let round = 0; round < 1000; round++) file.write(event());
    file.close();
    expect(told).toEqual(['cannot write trace /dev/full: ENOSPC; give a file that can be written']);
  });

  test('at its limit it ends as valid JSON that says so, and takes no more', () => {
    let full = 0;
    const file = new TraceFile(path, { apicIdOf: () => 0, maxBytes: 200_000, full: () => full++ });
    for (let round = 0; round < 10_000; round++) file.write(event());
    file.close();
    const items = JSON.parse(readFileSync(path, 'utf8')) as Item[];
    expect(items.at(-1)?.name).toBe('the trace is full and ends here');
    expect(full).toBe(1);
    const { size } = statSync(path);
    expect(size).toBeGreaterThan(200_000);
    expect(size).toBeLessThan(300_000);
  });
});
