/**
 * How long a guest takes to start, as whoever typed the command sees it: from spawn to the first byte of the guest's output
 * (the hello guest, a line after a dozen exits). That is a millisecond or two after its first instruction, so the figure is
 * an upper bound. Node alone, which prints one byte, and QEMU's microvm are measured the same way, in turns.
 */
import { spawn, spawnSync } from 'node:child_process';
import { type Report, show } from './figures.ts';
import { guest, ours } from './monitors.ts';
import { median, minimum } from './stats.ts';

const LIMIT_MS = 150;

const COMMANDS: readonly { readonly id: string; readonly label: string; readonly command: readonly string[] }[] = [
  { id: 'node', label: 'Node alone', command: [process.execPath, '-e', 'process.stdout.write("x")'] },
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
  const times = commands.map((): number[] => []);
  for (let round = 0; round < rounds; round++) {
    for (const [index, { command }] of commands.entries()) times[index]?.push(await firstOutput(command));
  }
  const rows = commands.map(({ id, label }, index) => {
    const all = times[index] ?? [];
    report.set(`start.${id}.ms`, median(all));
    report.set(`start.${id}.best.ms`, minimum(all));
    return [label, show(median(all)), show(minimum(all))];
  });
  report.print({
    title: 'Start: milliseconds from spawn to the first output',
    head: ['', 'median', 'best'],
    rows,
    note: 'A guest’s first output is later than its first instruction, so this is an upper bound of the latter.',
  });
  report.target({
    what: 'first guest output after process start, median',
    figure: 'start.guest.ms',
    limit: LIMIT_MS,
    unit: 'ms',
  });
}

function firstOutput([program = '', ...args]: readonly string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const begun = performance.now();
    let first = Number.NaN;
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'ignore'] });
    child.stdout.once('data', () => {
      first = performance.now() - begun;
    });
    child.on('error', reject);
    child.on('close', () => resolve(first)); // the next one starts on an idle machine
  });
}
