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
    const { perSecond, equal } = await runProbe<{ perSecond: number; equal: boolean }>(
      'conform',
      String(layer),
      String(SECONDS),
    );
    report.set(figure, perSecond);
    rows.push([label, show(perSecond), equal ? 'equal' : 'DIFFERENT']);
    report.target({ what: label, figure, limit: least, unit: '/s', atLeast: true });
  }
  report.print({ title: 'apiary conform', head: ['', `in ${SECONDS} s`, 'verdict'], rows });
}
