/** The live view: what fits a terminal, whatever its size and however many CPUs there are. */
import { describe, expect, it } from 'vitest';
import { collectVcpu } from '../../../src/inspect/collect.ts';
import type { MachineSnapshot } from '../../../src/inspect/snapshot.ts';
import { shortNumber, watchLines } from '../../../src/inspect/watch.ts';
import { type CpuSpec, make } from '../apic/helpers.ts';

function machine(count: number, busy: Readonly<Record<number, number>> = {}, nowNanos = 1e9): MachineSnapshot {
  const { system } = make(
    { maxApics: 1024 },
    Array.from({ length: count }, (_, id): CpuSpec => [id]),
  );
  const vcpus = Array.from({ length: count }, (_, index) => {
    const cpu = collectVcpu(system, index, { state: index === 0 ? 'running' : 'halted' });
    const acknowledged = busy[index] ?? 0;
    return { ...cpu, exits: acknowledged * 3, apic: { ...cpu.apic, counters: { ...cpu.apic.counters, acknowledged } } };
  });
  return { nowNanos, vcpus, map: system.map(), x2apicFormat: false, ioapic: [], pic: null, unclaimed: 0 };
}

describe('live view', () => {
  it('has a line for each CPU, with interrupts and exits a second', () => {
    const lines = watchLines(machine(2, { 1: 3000 }, 3e9), machine(2, { 1: 1000 }, 1e9), ['0x41 to 0x1'], {
      columns: 80,
      rows: 24,
    });
    expect(lines).toEqual([
      'APIC map: 2 IDs, logical mode none enabled (gate off)',
      'APIC ID  mode    state     IRR  ISR  TPR   int/s  exit/s',
      '0x0      xapic   running   -    -    0x0       0       0',
      '0x1      xapic   halted    -    -    0x0    1.0k    3.0k',
      '2 CPUs, 1.0k interrupts a second',
      '0x41 to 0x1',
    ]);
  });

  it('1,024 CPUs in 60 columns and 10 rows: the most active first', () => {
    const lines = watchLines(machine(1024, { 900: 50, 7: 80 }, 2e9), machine(1024), [], { columns: 60, rows: 10 });
    expect(lines).toHaveLength(10);
    expect(lines.every((line) => line.length <= 60)).toBe(true);
    expect(lines[2]).toMatch(/^0x7 .* 80 +240$/);
    expect(lines[3]).toMatch(/^0x384 /);
    expect(lines[8]).toBe('and 1018 more CPUs, less active');
  });

  it.each([
    [0, '0'],
    [999.4, '999'],
    [1234, '1.2k'],
    [340_000, '340k'],
    [1_100_000, '1.1M'],
  ])('%d is %s', (value, text) => {
    expect(shortNumber(value)).toBe(text);
  });
});
