/**
 * `apiary demo` (what `npm start` runs): the hotplug guest under each set of rules, gate off and gate on, beside KVM's own
 * local APIC. Exit status 1 if our `kvm` rules and the kernel differ anywhere in the guest's report.
 */

import Table from 'cli-table3';
import pc from 'picocolors';
import { hex } from '../hex.ts';
import type { MachineOptions } from '../machine/options.ts';
import { ADDED_CPU, BOOT_CPUS, type HotplugReport, runHotplugGuest } from './hotplug-run.ts';

/** The rules shown: the newest kernel's, those of before the gate, hardware's. */
const BEHAVIOURS = ['kvm', 'kvm-legacy', 'hardware'] as const;

const physical = (value: number): string => `physical:${hex(value, 8)}`;

/** The columns: physical destinations of the guest's interrupts while the added CPU is in xAPIC mode. */
const COLUMNS = [
  { title: `to ${hex(BOOT_CPUS[1])}`, destination: physical(BOOT_CPUS[1]) },
  { title: `to ${hex(ADDED_CPU)}`, destination: physical(ADDED_CPU) },
  { title: 'to broadcast', destination: physical(0xffff_ffff) },
] as const;

interface Row {
  readonly gate: boolean;
  readonly rules: string;
  readonly report: HotplugReport;
}

export async function demo({ verbose = false }: { verbose?: boolean }): Promise<number> {
  const rows: Row[] = [];
  for (const use32bitIds of [false, true]) {
    for (const behaviour of BEHAVIOURS)
      rows.push(await measure(`${behaviour}`, { behaviour, x2apicApi: { use32bitIds } }));
    rows.push(await measure('kernel', { apic: 'kernel', x2apicApi: { use32bitIds } }));
  }
  if (verbose) for (const { rules, gate, report } of rows) showGuest(`${rules}, gate ${gate ? 'on' : 'off'}`, report);
  process.stdout.write(`${intro()}\n${table(rows)}\n`);
  return verdict(rows);
}

async function measure(rules: string, options: MachineOptions): Promise<Row> {
  const report = await runHotplugGuest(options);
  return { gate: options.x2apicApi?.use32bitIds ?? false, rules, report };
}

function intro(): string {
  const boot = BOOT_CPUS.map(hex).join(' and ');
  return (
    `A guest with CPUs ${boot} hot-adds ${hex(ADDED_CPU)}, whose 8-bit APIC ID is ${hex(ADDED_CPU & 0xff)} as well. ` +
    'The boot CPU (x2APIC)\nsends a fixed interrupt while the others are in xAPIC mode. Who takes it, and by map or by scan?'
  );
}

function table(rows: readonly Row[]): string {
  const output = new Table({
    head: ['gate', 'rules', ...COLUMNS.map(({ title }) => title), 'INIT-SIPI started'],
    style: { head: [], border: [] },
  });
  for (const { gate, rules, report } of rows) {
    const cells = COLUMNS.map(({ destination }) => cell(report, destination));
    output.push([gate ? 'on' : 'off', rules, ...cells, started(report)]);
  }
  return output.toString();
}

function cell({ took, paths }: HotplugReport, destination: string): string {
  const index = took.findIndex((each) => each.phase === 'xapic' && each.destination === destination);
  if (index < 0) return pc.red('not reported');
  const path = paths[index] ? ` (${paths[index]})` : '';
  return `${took[index].cpus}${path}`;
}

/** Which CPUs the INIT and SIPI to the new ID started. */
function started({ lines }: HotplugReport): string {
  const match = /started=(\d+) restarted=(\S+)/.exec(lines.find((line) => line.includes('started=')) ?? '');
  if (!match) return pc.red('not reported');
  const cpus = [...(match[1] === '1' ? [hex(ADDED_CPU)] : []), ...(match[2] === '-' ? [] : [match[2]])];
  return cpus.join(',') || '-';
}

function showGuest(title: string, { text }: HotplugReport): void {
  process.stdout.write(`${pc.bold(title)}\n${text.replaceAll(/^/gm, '  ')}\n`);
}

/** Our `kvm` rows against the kernel's, over the whole report: every phase and destination, removal and return. */
function verdict(rows: readonly Row[]): number {
  let status = 0;
  for (const { gate, rules, report } of rows) {
    const { reason, detail } = report.result;
    if (reason === 'debug-exit' && report.result.status === 1) continue;
    process.stdout.write(pc.red(`The guest failed under ${rules}, gate ${gate ? 'on' : 'off'}: ${detail ?? reason}\n`));
    status = 1;
  }
  for (const gate of [false, true]) {
    const [ours, kernels] = ['kvm', 'kernel'].map((rules) =>
      rows.find((row) => row.gate === gate && row.rules === rules),
    );
    const count = kernels?.report.lines.length ?? 0;
    const differences = (kernels?.report.lines ?? []).flatMap((line, index) => {
      const our = ours?.report.lines[index];
      return our === line ? [] : [`  kernel: ${line}\n  kvm:    ${our ?? '(missing)'}`];
    });
    if (differences.length === 0 && count > 0 && ours?.report.lines.length === count) {
      process.stdout.write(
        `Gate ${gate ? 'on' : 'off'}: kvm and the kernel agree on all ${count} lines of the guest's report.\n`,
      );
    } else {
      process.stdout.write(
        pc.red(`Gate ${gate ? 'on' : 'off'}: kvm and the kernel differ:\n${differences.join('\n')}\n`),
      );
      status = 1;
    }
  }
  return status;
}
