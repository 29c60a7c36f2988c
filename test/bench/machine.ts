/** The figures of whole machines: hot-adding a CPU, and very many of them. Each from a process of its own (probes/). */
import { type Report, show } from './figures.ts';
import { runProbe } from './monitors.ts';
import { median, minimum } from './stats.ts';

const HOTPLUG_SAMPLES = '25';
const HOTPLUG_LIMIT_MS = 5;
const FEW = 2;
const MANY = 1024;
const MANY_LIMIT_MS = 5000;
const MANY_LIMIT_BYTES = 600e6;

export async function measureHotplug(report: Report): Promise<void> {
  const samples = await runProbe<number[]>('hotplug', HOTPLUG_SAMPLES);
  report.set('hotplug.ms', median(samples));
  report.set('hotplug.best.ms', minimum(samples));
  report.set('hotplug.first.ms', samples[0] ?? Number.NaN);
  report.print({
    title: 'Hot-add: milliseconds from machine.hotplug() to the new CPU’s first instruction',
    head: ['', 'median', 'best', 'the first one'],
    rows: [
      [
        `${HOTPLUG_SAMPLES} CPUs, one by one`,
        ...['', '.best', '.first'].map((of) => show(report.get(`hotplug${of}.ms`))),
      ],
    ],
  });
  report.target({
    what: 'hotplug() to first instruction, median',
    figure: 'hotplug.ms',
    limit: HOTPLUG_LIMIT_MS,
    unit: 'ms',
  });
}

interface Scale {
  readonly createMs: number;
  readonly startMs: number;
  readonly rssBytes: number;
}

export async function measureScale(report: Report): Promise<void> {
  const few = await runProbe<Scale>('scale', String(FEW));
  const many = await runProbe<Scale>('scale', String(MANY));
  const row = (cpus: number, { createMs, startMs, rssBytes }: Scale): string[] => {
    report.set(`scale.${cpus}.create.ms`, createMs);
    report.set(`scale.${cpus}.start.ms`, startMs);
    report.set(`scale.${cpus}.total.ms`, createMs + startMs);
    report.set(`scale.${cpus}.rss.bytes`, rssBytes);
    return [`${cpus} vCPUs`, show(createMs), show(startMs), show(createMs + startMs), show(rssBytes / 1e6)];
  };
  report.print({
    title: 'Many vCPUs on 2 workers',
    head: ['', 'create, ms', 'start, ms', 'together, ms', 'memory, MB'],
    rows: [row(FEW, few), row(MANY, many)],
    note: `Memory is the process’s resident set once every CPU has run; ${show((many.rssBytes - few.rssBytes) / (MANY - FEW) / 1e3)} kB a vCPU.`,
  });
  report.set('memory.per-vcpu.bytes', (many.rssBytes - few.rssBytes) / (MANY - FEW));
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
