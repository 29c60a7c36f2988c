/** `--trace FILE.svg`: a picture of the run's beginning, whatever its length. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ApicSystem } from '../../../src/apic/index.ts';
import type { TraceEvent } from '../../../src/machine/trace.ts';
import { ChartFile } from '../../../src/trace/chart-file.ts';

let directory = '';
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'apiary-chart-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

function drawn(events: Iterable<TraceEvent>): string {
  const path = join(directory, 'run.svg');
  const file = new ChartFile(path, (index) => `vCPU ${index}`);
  for (const event of events) file.write(event);
  file.close();
  return readFileSync(path, 'utf8');
}

test('what real APICs told: an arrow for the message, and not its acceptance once more', () => {
  const events: TraceEvent[] = [];
  const system = new ApicSystem(
    {},
    { trace: { event: (event) => void events.push({ ...event, nanos: events.length }) } },
  );
  for (const id of [0, 0x23, 0x123]) system.addApic(id).writeMmio(0xf0, 4, 0x1ff);
  system.apic(0).writeMmio(0x310, 4, 0x23000000);
  system.apic(0).writeMmio(0x300, 4, 0x41);
  const svg = drawn(events);
  expect(svg).toContain('0x41 to 0x23 (scan)');
  expect(svg.split('marker-end').length - 1).toBe(2);
  expect(svg).not.toContain('accepts');
  expect(svg).toContain('no map: the physical ID of vCPU 2 is another one&#39;s too'.replace('&#39;', "'"));
});

test('a million events do not grow it', () => {
  function* flood(): Generator<TraceEvent> {
    for (let nanos = 0; nanos < 1_000_000; nanos++) yield { kind: 'eoi', vcpuIndex: 0, vector: 0x41, nanos };
  }
  const svg = drawn(flood());
  expect(svg.length).toBeLessThan(200_000);
  expect(svg).toContain('998400 later events are not in it');
});
