/**
 * Very many vCPUs, by doubling: local APICs alone, whole machines whose guests are scripts (both without KVM), and real ones.
 * Each from a process of its own (probes/). A step that one CPU's change costs may grow with the number of CPUs, as KVM's
 * rebuild of its map does, and no faster.
 */
import { existsSync } from 'node:fs';
import { type Report, show } from './figures.ts';
import { runProbe } from './monitors.ts';

const COUNTS = [64, 128, 256, 512, 1024, 2048, 4096] as const;
const SMALLEST = COUNTS[0];
const LARGEST = 4096;
/** Times what is linear: caches may tell. */
const LINEAR = 2;
const FEW = 2;
const MANY = 1024;
const MANY_LIMIT_MS = 5000;
const MANY_LIMIT_BYTES = 600e6;

/** Milliseconds, but for the last. */
interface Apics {
  readonly create: number;
  readonly enable: number;
  readonly broadcast: number;
  readonly startAll: number;
  readonly rebuild: number;
  readonly change: number;
  readonly bytes: number;
}

/** What must not grow faster than the number of CPUs. */
const STEPS = ['broadcast', 'startAll', 'rebuild', 'change'] as const;
const LABELS: Readonly<Record<(typeof STEPS)[number], string>> = {
  broadcast: 'a broadcast',
  startAll: 'INIT and SIPI to all',
  rebuild: 'a rebuild of the map',
  change: 'one CPU’s change',
};

interface Machines {
  readonly createMs: number;
  /** Of scripted machines: reading the image, ACPI tables for all CPUs. */
  readonly loadMs?: number;
  readonly startMs: number;
  readonly rssBytes: number;
}

export async function measureScale(report: Report): Promise<void> {
  await measureApics(report);
  await measureMachines(report, 'scripted-scale', 'scale.scripted', 'Many vCPUs on 2 workers, scripts in KVM’s place', [
    ...COUNTS,
  ]);
  if (!existsSync('/dev/kvm')) {
    process.stderr.write('bench: no /dev/kvm here: of scale, real vCPUs are left out\n');
    return;
  }
  const { maxVcpus } = await runProbe<{ maxVcpus: number }>('kvm-limits');
  const counts = [FEW, ...COUNTS.filter((count) => count <= maxVcpus)];
  await measureMachines(report, 'scale', 'scale', `Many vCPUs on 2 workers; this KVM takes ${maxVcpus}`, counts);
  targetMany(report);
}

async function measureApics(report: Report): Promise<void> {
  const rows: string[][] = [];
  for (const count of COUNTS) {
    const apics = await runProbe<Apics>('apic-scale', String(count));
    report.set(`scale.apic.${count}.create.ms`, apics.create);
    report.set(`scale.apic.${count}.enable.ms`, apics.enable);
    for (const step of STEPS) report.set(`scale.apic.${count}.${step}.us`, apics[step] * 1e3);
    report.set(`scale.apic.${count}.bytes`, apics.bytes);
    rows.push([
      `${count} APICs`,
      show(apics.create),
      show(apics.enable),
      ...STEPS.map((step) => show(apics[step] * 1e3)),
      show(apics.bytes / 1e3),
    ]);
  }
  for (const step of STEPS) {
    const at = (count: number): number => report.get(`scale.apic.${count}.${step}.us`) ?? Number.NaN;
    const figure = `scale.apic.${step}.growth`;
    report.set(figure, at(LARGEST) / at(SMALLEST) / (LARGEST / SMALLEST));
    report.target({
      what: `${LABELS[step]}, ${LARGEST} CPUs over ${SMALLEST}, over linear`,
      figure,
      limit: LINEAR,
      unit: 'x',
    });
  }
  report.print({
    title: 'Many local APICs in x2APIC mode, without a guest',
    head: ['', 'create, ms', 'enable all, ms', ...STEPS.map((step) => `${LABELS[step]}, us`), 'memory, kB'],
    rows,
    note: 'Creating and enabling all is a change for each CPU, each with a rebuild of the map over all of them, as in KVM.',
  });
}

async function measureMachines(
  report: Report,
  probe: string,
  prefix: string,
  title: string,
  counts: readonly number[],
): Promise<void> {
  const rows: string[][] = [];
  for (const count of counts) {
    const { createMs, loadMs, startMs, rssBytes } = await runProbe<Machines>(probe, String(count));
    report.set(`${prefix}.${count}.create.ms`, createMs);
    report.set(`${prefix}.${count}.start.ms`, startMs);
    report.set(`${prefix}.${count}.total.ms`, createMs + startMs);
    report.set(`${prefix}.${count}.rss.bytes`, rssBytes);
    if (loadMs !== undefined) report.set(`${prefix}.${count}.load.ms`, loadMs);
    rows.push([
      `${count} vCPUs`,
      ...[createMs, loadMs, startMs, createMs + startMs].map((millis) => show(millis)),
      show(rssBytes / 1e6),
    ]);
  }
  report.print({
    title,
    head: ['', 'create, ms', 'load, ms', 'start, ms', 'create and start, ms', 'memory, MB'],
    rows,
    note: 'Memory is the process’s resident set once every CPU has run.',
  });
}

function targetMany(report: Report): void {
  const rss = (count: number): number => report.get(`scale.${count}.rss.bytes`) ?? Number.NaN;
  report.set('memory.per-vcpu.bytes', (rss(MANY) - rss(FEW)) / (MANY - FEW));
  report.target({
    what: `${MANY} vCPUs created and started`,
    figure: `scale.${MANY}.total.ms`,
    limit: MANY_LIMIT_MS,
    unit: 'ms',
  });
  report.target({
    what: `memory with ${MANY} vCPUs`,
    figure: `scale.${MANY}.rss.bytes`,
    limit: MANY_LIMIT_BYTES,
    unit: 'bytes',
  });
}
