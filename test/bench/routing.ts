/** Routing in the APIC core alone: one IPI through the map and by scan, and a rebuild of the map, by number of vCPUs. */
import { type Report, show } from './figures.ts';
import { runProbe } from './monitors.ts';

const COUNTS = [2, 16, 256, 1024] as const;
const MAP_LIMIT_NANOS = 100;
/** "The same" at 2 and 1,024 vCPUs: caches may tell, the number of vCPUs may not. */
const SAME = 1.25;

interface Routing {
  readonly map: number;
  readonly scan: number;
  readonly rebuild: number;
}

export async function measureRouting(report: Report): Promise<void> {
  const rows: string[][] = [];
  for (const count of COUNTS) {
    const { map, scan, rebuild } = await runProbe<Routing>('routing', String(count));
    report.set(`route.map.${count}.ns`, map);
    report.set(`route.scan.${count}.ns`, scan);
    report.set(`map-rebuild.${count}.ns`, rebuild);
    rows.push([`${count} vCPUs`, show(map), show(scan), show(rebuild)]);
  }
  const [few, many] = [COUNTS[0], COUNTS[COUNTS.length - 1] ?? COUNTS[0]];
  report.set(
    'route.map.growth',
    (report.get(`route.map.${many}.ns`) ?? Number.NaN) / (report.get(`route.map.${few}.ns`) ?? Number.NaN),
  );
  report.print({
    title: 'Routing one IPI, in nanoseconds',
    head: ['', 'through the map', 'by scan', 'map rebuild'],
    rows,
    note: 'From the ICR write (WRMSR) to the IRR bit and the wake-up call, all inclusive; the best of 150 batches.',
  });
  report.target({
    what: `route through the map, ${many} vCPUs`,
    figure: `route.map.${many}.ns`,
    limit: MAP_LIMIT_NANOS,
    unit: 'ns',
  });
  report.target({
    what: `the same with ${many} as with ${few} vCPUs`,
    figure: 'route.map.growth',
    limit: SAME,
    unit: 'x',
  });
}
