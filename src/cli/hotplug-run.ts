/**
 * One run of the hotplug guest (guest/hotplug.S) from start to end: adds the CPU, takes it back and returns it when the
 * guest says that it is ready, and reads the guest's report.
 */
import { fileURLToPath } from 'node:url';
import type { Path } from '../apic/index.ts';
import { Machine } from '../machine/machine.ts';
import type { RunResult } from '../machine/machine-events.ts';
import type { MachineOptions } from '../machine/options.ts';
import { PACKAGE_ROOT } from '../package-root.ts';
import { ADDED_CPU, BOOT_CPUS, TEST_VECTOR } from '../route/hotplug.ts';

export const HOTPLUG_IMAGE = fileURLToPath(new URL('guest/build/hotplug.elf', PACKAGE_ROOT));

/** Who took one test interrupt. */
export interface Took {
  /** xapic, x2apic, all-x2apic or return: the mode of the CPUs but the boot CPU. */
  readonly phase: string;
  /** As the guest writes it: `physical:0x00000123`. */
  readonly destination: string;
  /** `0x23,0x123`, or `-`. */
  readonly cpus: string;
}

export interface HotplugReport {
  readonly result: RunResult;
  readonly text: string;
  /** The guest's report lines, without the waits. */
  readonly lines: readonly string[];
  readonly took: readonly Took[];
  /** How each test interrupt was routed, in the order of `took`; empty under KVM's own APIC, which does not say. */
  readonly paths: readonly Path[];
}

export async function runHotplugGuest(options: MachineOptions): Promise<HotplugReport> {
  const machine = await Machine.create({
    cpus: BOOT_CPUS,
    hotpluggable: [ADDED_CPU],
    timeoutMs: 60_000,
    ...options,
    trace: options.apic !== 'kernel',
  });
  const paths: Path[] = [];
  let text = '';
  let handled = 0;
  machine.on('trace', (event) => {
    if (event.kind === 'route' && event.message.vector === TEST_VECTOR) paths.push(event.path);
  });
  machine.on('serial', (chunk) => {
    text += chunk.toString('latin1');
    const lines = text.split('\n');
    for (; handled < lines.length - 1; handled++) {
      if (lines[handled] === 'hotplug: ready for removal') void machine.unplug(ADDED_CPU);
      if (lines[handled] === 'hotplug: ready for return') void machine.hotplug(ADDED_CPU);
    }
  });
  try {
    await machine.load(HOTPLUG_IMAGE);
    const running = machine.run();
    await machine.hotplug(ADDED_CPU);
    const result = await running;
    const lines = text.split('\n').filter((line) => /^(hotplug: (cpu|eject)|ipi )/.test(line));
    return { result, text, lines, took: lines.flatMap(parseTook), paths };
  } finally {
    await machine.stop();
  }
}

function parseTook(line: string): Took[] {
  const match = /^ipi phase=(\S+) +dest=(\S+) took=(\S+)$/.exec(line.trim());
  return match ? [{ phase: match[1], destination: match[2], cpus: match[3] }] : [];
}
