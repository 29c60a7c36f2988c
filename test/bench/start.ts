/**
 * How long a guest takes to start, as whoever typed the command sees it: from spawn to the first byte of the guest's output
 * (the hello guest, a line after a dozen exits). That is a millisecond or two after its first instruction, so the figure is
 * an upper bound. Node alone, which prints one byte or does nothing, a worker thread that prints one, and QEMU's microvm are
 * measured the same way, in turns; the ratios are those of a turn.
 */
import { spawn, spawnSync } from 'node:child_process';
import { type Report, show } from './figures.ts';
import { guest, ours } from './monitors.ts';
import { median, minimum, ratios } from './stats.ts';

const LIMIT_MS = 150;
const LIMIT_RATIO = 1.6;

/** What no program on a worker thread can be faster than. */
const WORKER = `new (require('node:worker_threads').Worker)("require('node:fs').writeSync(1, 'x')", { eval: true })`;

const COMMANDS: readonly { readonly id: string; readonly label: string; readonly command: readonly string[] }[] = [
  { id: 'node', label: 'Node alone', command: [process.execPath, '-e', 'process.stdout.write("x")'] },
  { id: 'node-e-0', label: 'node -e 0, to its end', command: [process.execPath, '-e', '0'] },
  { id: 'worker', label: 'Node and a worker thread', command: [process.execPath, '-e', WORKER] },
  { id: 'guest', label: 'apiary run hello.elf', command: ours.command(guest('hello'), 1) },
  {
    id: 'microvm',
    label: 'QEMU microvm, same image',
    command: [
      ...['qemu-system-x86_64', '-M', 'microvm', '-enable-kvm', '-display', 'none', '-nodefaults', '-no-user-config'],
      ...['-serial', 'stdio', '-device', 'isa-debug-exit,iobase=0xf4', '-kernel', guest('hello')],
    ],
  },
];

export async function measureStart(report: Report, rounds: number): Promise<void> {
  const commands = COMMANDS.filter(({ command }) => spawnSync(command[0] ?? '', ['--version']).status === 0);
  const measured = commands.map((): number[] => []);
  for (let round = 0; round <= rounds; round++) {
    for (const [index, { command }] of commands.entries()) measured[index]?.push(await firstOutput(command));
  }
  // The first round fills the code cache.
  const times = measured.map((all) => all.slice(1));
  const base = times[commands.findIndex(({ id }) => id === 'node-e-0')] ?? [];
  const rows = commands.map(({ id, label }, index) => {
    const all = times[index] ?? [];
    report.set(`start.${id}.ms`, median(all));
    report.set(`start.${id}.best.ms`, minimum(all));
    report.set(`start.${id}.ratio`, median(ratios(all, base)));
    return [label, show(median(all)), show(minimum(all)), show(report.get(`start.${id}.ratio`))];
  });
  report.print({
    title: 'Start: milliseconds from spawn to the first output',
    head: ['', 'median', 'best', 'over node -e 0'],
    rows,
    note: 'A guest’s first output is later than its first instruction, so this is an upper bound of the latter.',
  });
  report.target({
    what: 'first guest output after process start, median',
    figure: 'start.guest.ms',
    limit: LIMIT_MS,
    unit: 'ms',
  });
  report.target({
    what: 'the same over node -e 0, median of turns',
    figure: 'start.guest.ratio',
    limit: LIMIT_RATIO,
    unit: 'x',
  });
}

/** @returns the time to the first output, or for a program without any to its end */
function firstOutput([program = '', ...args]: readonly string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const begun = performance.now();
    let first = Number.NaN;
    // Without the certificates that Node would read first, which makes everything else look fast.
    const env = { ...process.env, NODE_EXTRA_CA_CERTS: '' };
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'ignore'], env });
    child.stdout.once('data', () => {
      first = performance.now() - begun;
    });
    child.on('error', reject);
    child.on('close', () => resolve(Number.isNaN(first) ? performance.now() - begun : first)); // the next one starts on an idle machine
  });
}
