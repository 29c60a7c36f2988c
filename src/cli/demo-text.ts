/** What `apiary demo` found, for people: a table, the kernel's rules, and whether ours and the kernel's agree. */
import pc from 'picocolors';
import { hex } from '../hex.ts';
import { ADDED_CPU, BOOT_CPUS, DESTINATIONS } from '../route/hotplug.ts';
import type { Compared, DemoResult, DemoRow, Sent } from './demo.ts';
import { table, wrapped } from './table.ts';
import { wordsOf } from './without-kvm.ts';

const BROADCAST = 0xffff_ffff;

const HEAD = [
  'gate',
  'rules',
  ...DESTINATIONS.map((to) => (to === BROADCAST ? 'to broadcast' : `to ${hex(to)}`)),
  'INIT-SIPI started',
];

/** @param verbose with all that each guest printed */
export function demoText({ rows, withoutKvm, kernel, compared }: DemoResult, verbose: boolean): string {
  const parts = verbose ? rows.filter(({ text }) => text !== '').map(guestsWords) : [];
  parts.push(intro());
  if (withoutKvm === undefined) {
    parts.push(table(HEAD, rows.map(cells)), wrapped(`${kernel}.`));
  } else {
    parts.push(
      table(HEAD, withKernelsGaps(rows)),
      wrapped(
        'By the model alone, without a guest: apiary route asks it anything. For the rows of the kernel, and guests:',
      ),
      wrapped(wordsOf(withoutKvm), '  '),
    );
  }
  parts.push(...rows.flatMap(failure), ...compared.map(verdict));
  return `${parts.join('\n')}\n`;
}

function intro(): string {
  const boot = BOOT_CPUS.map((id) => hex(id)).join(' and ');
  return wrapped(
    `A guest with CPUs ${boot} hot-adds ${hex(ADDED_CPU)}, whose 8-bit APIC ID is ${hex(ADDED_CPU & 0xff)} as well. ` +
      'The boot CPU (x2APIC) sends a fixed interrupt while the others are in xAPIC mode. Who takes it, and by map or by scan?',
  );
}

const guestsWords = ({ rules, gate, text }: DemoRow): string =>
  `${pc.bold(`${rules}, gate ${gate}`)}\n${text.trimEnd().replaceAll(/^/gm, '  ')}`;

const cells = ({ gate, rules, sent, started }: DemoRow): string[] => [
  gate,
  rules,
  ...sent.map(sentCell),
  started === undefined ? pc.red('not reported') : list(started),
];

const list = (ids: readonly string[]): string => ids.join(',') || '-';

function sentCell({ took, path }: Sent): string {
  if (took === undefined) return pc.red('not reported');
  return path === undefined ? list(took) : `${list(took)} (${path})`;
}

/** After the last row of each gate, the kernel's, which nobody could fill. */
function withKernelsGaps(rows: readonly DemoRow[]): string[][] {
  return rows.flatMap((row, index) => {
    const gap = [row.gate, 'kernel', 'needs /dev/kvm', ...DESTINATIONS.map(() => '')];
    return rows[index + 1]?.gate === row.gate ? [cells(row)] : [cells(row), gap];
  });
}

function failure({ rules, gate, failed }: DemoRow): string[] {
  if (failed === undefined) return [];
  const said = failed.lastLine === '' ? 'It said nothing.' : `Its last line: ${failed.lastLine}`;
  return [pc.red(`The guest failed under ${rules}, gate ${gate}: ${failed.why}\n  ${said}`)];
}

function verdict({ gate, rules, lines, equal, differences }: Compared): string {
  if (equal) return `Gate ${gate}: ${rules} and the kernel agree on all ${lines} lines of the guest's report.`;
  const each = differences.map(({ kernel, ours = '(missing)' }) => `  kernel: ${kernel}\n  ours:   ${ours}`);
  return pc.red([`Gate ${gate}: ${rules} and the kernel differ:`, ...each].join('\n'));
}
