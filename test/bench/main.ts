/**
 * `npm run bench`: what things cost here, from one run, beside a C program that does the same with the least it can.
 *
 *     npm run bench                            everything, some three minutes
 *     npm run bench -- --only routing,start    some sections
 *     npm run bench -- --json FILE             the same figures, under names that stay
 *
 * A target that is missed is said, and is no failure: the exit status is 0 unless something could not be measured.
 */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import { measureConformance } from './conformance.ts';
import { measureExits, measureIpis, targetQemu } from './exits.ts';
import { Report } from './figures.ts';
import { measureHotplug } from './hotplug.ts';
import { Floor } from './monitors.ts';
import { measureRouting } from './routing.ts';
import { measureScale } from './scale.ts';
import { measureStart } from './start.ts';

const SECTIONS = ['routing', 'exits', 'ipis', 'start', 'hotplug', 'scale', 'conformance'] as const;
type SectionName = (typeof SECTIONS)[number];
/** Without KVM too; of scale, a part. */
const NEEDS_NO_KVM: readonly SectionName[] = ['routing', 'scale'];

interface Options {
  readonly json?: string;
  readonly only: readonly SectionName[];
  readonly rounds: number;
  readonly qemu: boolean;
}

function sections(text: string): SectionName[] {
  return text.split(',').map((word) => {
    const name = SECTIONS.find((each) => each === word);
    if (!name) throw new InvalidArgumentError(`choose from ${SECTIONS.join(', ')}.`);
    return name;
  });
}

function rounds(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError('a whole number from 1.');
  return value;
}

async function bench({ json, only, rounds, qemu }: Options): Promise<void> {
  const report = new Report();
  const wanted = only.filter((name) => {
    const able = NEEDS_NO_KVM.includes(name) || existsSync('/dev/kvm');
    if (!able) process.stderr.write(`bench: no /dev/kvm here: ${name} is left out\n`);
    return able;
  });
  const directory = mkdtempSync(join(tmpdir(), 'apiary-bench-'));
  try {
    const floor = wanted.some((name) => name === 'exits' || name === 'ipis') ? new Floor(directory) : undefined;
    const effort = { rounds, qemu, directory };
    const measure: Readonly<Record<SectionName, () => Promise<void> | undefined>> = {
      routing: () => measureRouting(report),
      exits: () => floor && measureExits(report, floor, effort),
      ipis: () => floor && measureIpis(report, floor, effort),
      start: () => measureStart(report, 2 * rounds),
      hotplug: () => measureHotplug(report),
      scale: () => measureScale(report),
      conformance: () => measureConformance(report),
    };
    for (const name of wanted) {
      try {
        await measure[name]();
      } catch (error) {
        process.exitCode = 1;
        process.stderr.write(`bench: ${name} could not be measured: ${String(error)}\n`);
      }
    }
  } finally {
    rmSync(directory, { recursive: true });
  }
  targetQemu(report);
  report.printTargets();
  if (json !== undefined) report.write(json);
}

const program = new Command('bench')
  .description('measure apiary: exits, interrupts, routing, start-up, hotplug, size')
  .option('--json <file>', 'write the figures to a file as well')
  .option('--only <sections>', SECTIONS.join(', '), sections, [...SECTIONS])
  .option('--rounds <n>', 'how many times the monitors take their turn', rounds, 5)
  .option('--no-qemu', 'leave QEMU out of exits and interrupts, also where it is installed')
  .action((options: Options) => bench(options));
await program.parseAsync();
