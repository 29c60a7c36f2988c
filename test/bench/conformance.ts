/** How fast `apiary conform` compares our local APICs with the kernel's: routing cases and register operations a second. */
import { type Report, show } from './figures.ts';
import { runProbe } from './monitors.ts';

const SECONDS = 5;
const LAYERS = [
  { layer: 1, label: 'layer 1, routing: cases a second', figure: 'conform.layer1.cases-per-second', least: 2000 },
  {
    layer: 2,
    label: 'layer 2, registers: operations a second',
    figure: 'conform.layer2.operations-per-second',
    least: 1000,
  },
] as const;

export async function measureConformance(report: Report): Promise<void> {
  const rows: string[][] = [];
  for (const { layer, label, figure, least } of LAYERS) {
    const result = await conform(layer);
    const { perSecond, equal } = result ?? { perSecond: Number.NaN, equal: true };
    report.set(figure, perSecond);
    rows.push([label, show(perSecond), result === undefined ? 'could not run' : equal ? 'equal' : 'DIFFERENT']);
    report.target({ what: label, figure, limit: least, unit: '/s', atLeast: true });
  }
  report.print({ title: 'apiary conform', head: ['', `in ${SECONDS} s`, 'verdict'], rows });
}

interface Speed {
  readonly perSecond: number;
  readonly equal: boolean;
}

/** @returns undefined when the layer cannot run here; it has said why on stderr */
async function conform(layer: number): Promise<Speed | undefined> {
  try {
    return await runProbe<Speed>('conform', String(layer), String(SECONDS));
  } catch {
    return undefined;
  }
}
