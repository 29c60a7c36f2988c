/**
 * `apiary demo` (what `npm start` runs): the hotplug guest under each set of rules, gate off and gate on, beside KVM's own
 * local APIC. The kernel is asked first which of them it follows (conform/kernel-rules.ts). Exit status 1 if our guest under
 * those and the kernel's differ anywhere in the guest's report. Where there is no KVM, the rows that the model alone can say.
 */

import { availableParallelism } from 'node:os';
import pc from 'picocolors';
import { holds } from '../apic/index.ts';
import type { KernelRules } from '../conform/kernel-rules.ts';
import { hex } from '../hex.ts';
import type { MachineOptions } from '../machine/options.ts';
import { ADDED_CPU, BOOT_CPUS, DESTINATIONS, type HotplugRow, hotplugRow } from '../route/hotplug.ts';
import type { HotplugReport } from './hotplug-run.ts';
import { table, wrapped } from './table.ts';
import { hostsWord, type WithoutKvm, whyNoKvm } from './without-kvm.ts';

/** The rules shown: the newest kernel's, those of before the gate, hardware's. */
const BEHAVIOURS = ['kvm', 'kvm-legacy', 'hardware'] as const;
const BROADCAST = 0xffff_ffff;
/** Guests that run beside each other: one that fails waits, and the others need not wait for it. */
const LEAST_AT_ONCE = 4;

interface Row {
  readonly gate: boolean;
  readonly rules: string;
  readonly report: HotplugReport;
}

const HEAD = [
  'gate',
  'rules',
  ...DESTINATIONS.map((to) => (to === BROADCAST ? 'to broadcast' : `to ${hex(to)}`)),
  'INIT-SIPI started',
];

export interface DemoOptions {
  readonly verbose?: boolean;
  /** On a slow host guests that share it lose patience with each other. */
  readonly oneByOne?: boolean;
}

export async function demo({ verbose = false, oneByOne = false }: DemoOptions): Promise<number> {
  const without = whyNoKvm();
  if (without !== undefined) return showModel(without);
  let rows: Row[];
  let host: KernelRules;
  try {
    const { hostKernelRules } = await import('../conform/kernel-rules.ts');
    host = await hostKernelRules();
    rows = await measureAll(oneByOne ? 1 : Math.max(LEAST_AT_ONCE, availableParallelism()));
  } catch (error) {
    const word = hostsWord(error);
    if (word === undefined || word.remedy === '') throw error;
    return showModel(word);
  }
  if (verbose) for (const { rules, gate, report } of rows) showGuest(`${rules}, gate ${gate ? 'on' : 'off'}`, report);
  print(intro());
  print(table(HEAD, rows.map(cells)));
  print(wrapped(`${host.text}.`));
  return verdict(rows, holds('gate', host.behaviour) && !host.lacking.includes('gate') ? 'kvm' : 'kvm-legacy');
}

async function measureAll(atOnce: number): Promise<Row[]> {
  const { runHotplugGuest } = await import('./hotplug-run.ts');
  const jobs = [false, true].flatMap((use32bitIds): [string, MachineOptions][] => [
    ...BEHAVIOURS.map((behaviour): [string, MachineOptions] => [behaviour, { behaviour, x2apicApi: { use32bitIds } }]),
    ['kernel', { apic: 'kernel', x2apicApi: { use32bitIds } }],
  ]);
  const rows: Row[] = [];
  const takeTurns = async (): Promise<void> => {
    for (let at = next++; at < jobs.length; at = next++) {
      const [rules, options] = jobs[at] ?? ['', {}];
      rows[at] = { gate: options.x2apicApi?.use32bitIds ?? false, rules, report: await runHotplugGuest(options) };
    }
  };
  let next = 0;
  await Promise.all(Array.from({ length: atOnce }, takeTurns));
  return rows;
}

/** What the model alone can say: the same messages, without a guest. */
function showModel({ why, remedy }: WithoutKvm): number {
  const rows = [false, true].flatMap((gate) => [
    ...BEHAVIOURS.map((behaviour) => [
      gate ? 'on' : 'off',
      behaviour,
      ...modelCells(hotplugRow({ behaviour, x2apicFormat: gate })),
    ]),
    [gate ? 'on' : 'off', 'kernel', 'needs /dev/kvm', ...DESTINATIONS.map(() => '')],
  ]);
  print(intro());
  print(table(HEAD, rows));
  print(
    wrapped(
      'By the model alone, without a guest: apiary route asks it anything. For the rows of the kernel, and guests:',
    ),
  );
  print(wrapped(`${why}${remedy === '' ? '' : `: ${remedy}`}`, '  '));
  return 0;
}

const modelCells = ({ took, started }: HotplugRow): string[] => [
  ...took.map(({ cpus, path }) => `${idList(cpus)} (${path})`),
  idList(started),
];

const idList = (ids: readonly number[]): string => ids.map((id) => hex(id)).join(',') || '-';

function intro(): string {
  const boot = BOOT_CPUS.map((id) => hex(id)).join(' and ');
  return wrapped(
    `A guest with CPUs ${boot} hot-adds ${hex(ADDED_CPU)}, whose 8-bit APIC ID is ${hex(ADDED_CPU & 0xff)} as well. ` +
      'The boot CPU (x2APIC) sends a fixed interrupt while the others are in xAPIC mode. Who takes it, and by map or by scan?',
  );
}

const cells = ({ gate, rules, report }: Row): string[] => [
  gate ? 'on' : 'off',
  rules,
  ...DESTINATIONS.map((to) => cell(report, `physical:${hex(to, 8)}`)),
  started(report),
];

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

const print = (text: string): void => {
  process.stdout.write(`${text}\n`);
};

function showGuest(title: string, { text }: HotplugReport): void {
  process.stdout.write(`${pc.bold(title)}\n${text.replaceAll(/^/gm, '  ')}\n`);
}

/** Our rows of the kernel's rules against its own, over the whole report: every phase and destination, removal and return. */
function verdict(rows: readonly Row[], rules: (typeof BEHAVIOURS)[number]): number {
  let status = 0;
  for (const { gate, rules: under, report } of rows) {
    const { reason, detail } = report.result;
    if (reason === 'debug-exit' && report.result.status === 1) continue;
    const last = report.text.trimEnd().split('\n').at(-1) ?? '';
    const said = last === '' ? 'It said nothing.' : `Its last line: ${last}`;
    print(pc.red(`The guest failed under ${under}, gate ${gate ? 'on' : 'off'}: ${detail ?? reason}\n  ${said}`));
    status = 1;
  }
  for (const gate of [false, true]) {
    const [ours, kernels] = [rules, 'kernel'].map((each) =>
      rows.find((row) => row.gate === gate && row.rules === each),
    );
    const count = kernels?.report.lines.length ?? 0;
    const differences = (kernels?.report.lines ?? []).flatMap((line, index) => {
      const our = ours?.report.lines[index];
      return our === line ? [] : [`  kernel: ${line}\n  ours:   ${our ?? '(missing)'}`];
    });
    if (differences.length === 0 && count > 0 && ours?.report.lines.length === count) {
      process.stdout.write(
        `Gate ${gate ? 'on' : 'off'}: ${rules} and the kernel agree on all ${count} lines of the guest's report.\n`,
      );
    } else {
      process.stdout.write(
        pc.red(`Gate ${gate ? 'on' : 'off'}: ${rules} and the kernel differ:\n${differences.join('\n')}\n`),
      );
      status = 1;
    }
  }
  return status;
}
