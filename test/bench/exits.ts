/**
 * What an exit and an interrupt cost: the same guests under the C floor, under us and, where it is installed, under QEMU,
 * in turns, so that what else happens on the machine hits all of them alike.
 */
import { type Report, show } from './figures.ts';
import {
  type Floor,
  type GuestFigures,
  type Monitor,
  ours,
  oursOnKernelApic,
  oursSandboxed,
  oursTracing,
  qemuMonitors,
  runGuest,
} from './monitors.ts';
import { median, ratios } from './stats.ts';

/** An operation of a guest, as it is called in the table. The group is the first part of its figures' names. */
interface Operation {
  readonly id: string;
  readonly label: string;
}

const EXITS: readonly Operation[] = [
  { id: 'pio-out', label: 'port write (UART scratch)' },
  { id: 'pio-in', label: 'port read (UART scratch)' },
  { id: 'apic-write', label: 'xAPIC write (TPR)' },
  { id: 'apic-read', label: 'xAPIC read (SVR)' },
  { id: 'msr-write', label: 'x2APIC WRMSR (TPR)' },
  { id: 'msr-read', label: 'x2APIC RDMSR (SVR)' },
  { id: 'self-ipi', label: 'self-IPI with EOI, xAPIC' },
  { id: 'self-ipi-msr', label: 'self-IPI with EOI, x2APIC' },
  { id: 'self-ipi-pv-eoi', label: 'self-IPI with PV EOI, x2APIC' },
  { id: 'pm-timer', label: 'PM timer read' },
  { id: 'serial', label: 'serial byte' },
  { id: 'cpuid', label: 'CPUID (no exit to userspace)' },
];
/** The exits that the target is about. */
const TARGETED = ['pio-out', 'pio-in', 'apic-write', 'apic-read', 'msr-write', 'msr-read'];
const EXIT_LIMIT = 1.1;

const IPIS: readonly Operation[] = [
  { id: 'ipi-halted', label: 'IPI to a halted vCPU, xAPIC' },
  { id: 'ipi-halted-msr', label: 'IPI to a halted vCPU, x2APIC' },
  { id: 'ipi-running', label: 'IPI to a running vCPU, xAPIC' },
  { id: 'ipi-running-msr', label: 'IPI to a running vCPU, x2APIC' },
  { id: 'ipi-pingpong', label: 'round trip between halted, xAPIC' },
  { id: 'ipi-pingpong-msr', label: 'round trip between halted, x2APIC' },
];

/** QEMU's own APIC has to be met on APIC and IPI costs, and within this on port I/O. */
const QEMU_LIMITS: readonly { readonly id: string; readonly limit: number }[] = [
  { id: 'apic-write', limit: 1 },
  { id: 'apic-read', limit: 1 },
  { id: 'self-ipi', limit: 1 },
  { id: 'ipi-halted', limit: 1 },
  { id: 'ipi-running', limit: 1 },
  { id: 'pio-out', limit: 1.2 },
  { id: 'pio-in', limit: 1.2 },
];

export interface Effort {
  readonly rounds: number;
  /** Measure QEMU as well, where it is installed. */
  readonly qemu: boolean;
  /** For files that nobody keeps. */
  readonly directory: string;
}

/** By monitor's name, then round. */
type Rounds = ReadonlyMap<string, readonly GuestFigures[]>;

export async function measureExits(report: Report, floor: Floor, { rounds, qemu, directory }: Effort): Promise<void> {
  const monitors = [floor, ours, oursSandboxed, oursTracing(directory), ...(qemu ? qemuMonitors() : [])];
  const results = await inTurns(monitors, 'bench-exits', 1, rounds);
  tabulate(report, 'exit', 'Exits, in nanoseconds', EXITS, monitors, results, floor.tscKhz());
  for (const id of TARGETED) {
    const what = `${EXITS.find((each) => each.id === id)?.label ?? id} over the C floor`;
    report.target({ what, figure: `exit.${id}.ratio`, limit: EXIT_LIMIT, unit: 'x' });
  }
  const nanos = report.get('exit.serial.ns');
  if (nanos !== undefined) report.set('serial.bytes-per-second', 1e9 / nanos);
  const read = report.get('exit.pm-timer.ns');
  if (read !== undefined) report.set('pm-timer.reads-per-second', 1e9 / read);
}

export async function measureIpis(report: Report, floor: Floor, { rounds, qemu, directory }: Effort): Promise<void> {
  const monitors = [
    floor,
    ours,
    oursSandboxed,
    oursTracing(directory),
    oursOnKernelApic,
    ...(qemu ? qemuMonitors() : []),
  ];
  const results = await inTurns(monitors, 'bench-ipi', 2, rounds);
  tabulate(report, 'ipi', 'Interrupts between two vCPUs, in nanoseconds', IPIS, monitors, results, floor.tscKhz());
  const rows = monitors.map(({ name }) => {
    const rate = (mode: string): string => {
      const nanos = report.get(`ipi.ipi-pingpong${mode}.${name === ours.name ? '' : `${name}.`}ns`);
      if (nanos === undefined) return '-';
      report.set(`ipi.per-second${mode}${name === ours.name ? '' : `.${name}`}`, 2e9 / nanos);
      return show(2e9 / nanos);
    };
    return [name, rate(''), rate('-msr')];
  });
  report.print({ title: 'IPIs a second, ping-pong between two halted vCPUs', head: ['', 'xAPIC', 'x2APIC'], rows });
}

/** No slower than QEMU with its own APICs; both sections have to have run. */
export function targetQemu(report: Report): void {
  for (const { id, limit } of QEMU_LIMITS) {
    const group = id.startsWith('ipi') ? 'ipi' : 'exit';
    const figure = `${group}.${id}.ratio-to-qemu-off`;
    if (report.get(figure) !== undefined) {
      report.target({ what: `${id} over QEMU with kernel-irqchip=off`, figure, limit, unit: 'x' });
    }
  }
}

async function inTurns(monitors: readonly Monitor[], image: string, cpus: number, rounds: number): Promise<Rounds> {
  const results = new Map<string, GuestFigures[]>(monitors.map(({ name }) => [name, []]));
  const able = new Set(monitors);
  for (let round = 0; round < rounds; round++) {
    for (const monitor of able) {
      const figures = await runGuest(monitor, image, cpus);
      results.get(monitor.name)?.push(figures);
      if (figures.size === 0) able.delete(monitor); // QEMU's own APIC hangs here in some guests: not once more
    }
  }
  return results;
}

function tabulate(
  report: Report,
  group: string,
  title: string,
  operations: readonly Operation[],
  monitors: readonly Monitor[],
  results: Rounds,
  tscKhz: number,
): void {
  const nanos = (name: string, id: string): number[] =>
    (results.get(name) ?? []).map((figures) => ((figures.get(id) ?? Number.NaN) * 1e6) / tscKhz);
  const finite = (values: readonly number[]): number[] => values.filter(Number.isFinite);
  const others = monitors.filter(({ name }) => name !== 'floor' && name !== ours.name);
  const rows = operations.map(({ id, label }) => {
    const own = nanos(ours.name, id);
    const floor = nanos('floor', id);
    report.set(`${group}.${id}.ns`, median(finite(own)));
    report.set(`${group}.${id}.floor.ns`, median(finite(floor)));
    report.set(`${group}.${id}.ratio`, median(ratios(own, floor)));
    for (const { name } of others) {
      const theirs = nanos(name, id);
      report.set(`${group}.${id}.${name}.ns`, median(finite(theirs)));
      report.set(`${group}.${id}.ratio-to-${name}`, median(ratios(own, theirs)));
    }
    return [
      label,
      show(report.get(`${group}.${id}.floor.ns`)),
      show(report.get(`${group}.${id}.ns`)),
      show(report.get(`${group}.${id}.ratio`)),
      ...others.map(({ name }) => show(report.get(`${group}.${id}.${name}.ns`))),
    ];
  });
  report.print({
    title,
    head: ['', 'C floor', 'apiary', 'ratio', ...others.map(({ name }) => name)],
    rows,
    note: 'Medians of rounds in which the monitors took turns; the ratio is the median of the rounds’ ratios.',
  });
}
