/** What hot-adding a CPU takes, from a process of its own (probes/). */
import { type Report, show } from './figures.ts';
import { runProbe } from './monitors.ts';
import { median, minimum } from './stats.ts';

const HOTPLUG_SAMPLES = '25';
const HOTPLUG_LIMIT_MS = 5;

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
