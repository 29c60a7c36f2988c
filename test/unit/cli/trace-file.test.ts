/** Traces on disk: valid JSON at every length, tracks named once, failures told once. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { TraceFile } from '../../../src/cli/trace-file.ts';
import type { TraceEvent } from '../../../src/machine/trace.ts';

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
const event = (change: Partial<TraceEvent> = {}): TraceEvent => ({
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
  const file = new TraceFile(
    path,
    (vcpuIndex) => IDS[vcpuIndex],
    () => {},
    5_000_000,
  );
  for (const each of events) file.write(each);
  file.close();
  return JSON.parse(readFileSync(path, 'utf8')) as Item[];
}

describe('TraceFile', () => {
  test('without events it is valid JSON that names the process', () => {
    expect(written().map(({ name }) => name)).toEqual(['process_name', 'thread_name', 'thread_sort_index']);
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
      name: 'fixed 0x61 to 0x23',
      args: {
        destination: '0x23',
        destinationMode: 'physical',
        shorthand: 'none',
        trigger: 'edge',
        path: 'map',
        result: 1,
        taken: 'vCPU 1 (APIC ID 0x23)',
        scan: 'vCPU 1 (APIC ID 0x23): its xAPIC ID',
      },
    });
  });

  test('by scan, those whom the scan picked took it; nobody is nobody', () => {
    const why = 'its xAPIC ID';
    const [one, none] = written(
      event({ path: 'scan', map: null, targets: [1, 2].map((vcpuIndex) => ({ vcpuIndex, why })) }),
      event({ path: 'scan', map: null, scan: [], targets: [], result: -1 }),
    ).filter(({ args }) => args?.taken !== undefined);
    expect(one.args?.taken).toBe('vCPU 1 (APIC ID 0x23), vCPU 2 (APIC ID 0x123)');
    expect(none.args).toMatchObject({ taken: 'nobody', scan: 'no match', result: -1 });
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

  test('a file that cannot be opened is a mistake with a reason', () => {
    expect(() => new TraceFile(join(directory, 'no', 'file'), () => 0)).toThrow(
      /^cannot write trace .*: ENOENT; give a file that can be written$/,
    );
  });

  test('a full disk is told once, and ends nothing else', () => {
    const told: string[] = [];
    const file = new TraceFile(
      '/dev/full',
      () => 0,
      (error) => told.push(error.message),
    );
    for (let round = 0; round < 1000; round++) file.write(event());
    file.close();
    expect(told).toEqual(['cannot write trace /dev/full: ENOSPC; give a file that can be written']);
  });
});
