/**
 * The monitors that run the same guests (guest/bench-*.S), and what those guests print: TSC cycles for each batch of an
 * operation. The guest measures, so a figure means the same under every monitor.
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { median } from './stats.ts';

const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url));

/** The command, as package.json's `bin` names it. */
export const APIARY = path('../../dist/bundle/main.cjs');
export const probe = (name: string): string => path(`probes/${name}.mjs`);
export const guest = (name: string): string => path(`../../guest/build/${name}.elf`);

export interface Monitor {
  readonly name: string;
  /** @returns the command line that runs `image` with `cpus` CPUs, serial port on stdout */
  command(image: string, cpus: number): readonly string[];
}

/** Compiled anew for each run of the bench, with what `cc` is here. */
export class Floor implements Monitor {
  readonly name = 'floor';
  readonly #program: string;

  /** @param directory where the program is put */
  constructor(directory: string) {
    this.#program = join(directory, 'floor');
    execFileSync('cc', ['-O2', '-pthread', '-o', this.#program, path('floor.c')], { stdio: 'inherit' });
  }

  command(image: string, cpus: number): readonly string[] {
    return [this.#program, image, String(cpus)];
  }

  /** Frequency of the TSC, which KVM knows. */
  tscKhz(): number {
    const { stdout } = spawnSync(this.#program, ['--tsc-khz'], { encoding: 'utf8' });
    return Number(stdout);
  }
}

export const ours: Monitor = {
  name: 'apiary',
  command: (image, cpus) => [process.execPath, APIARY, 'run', image, '--cpus', String(cpus)],
};

export const oursOnKernelApic: Monitor = {
  name: 'apiary-kernel',
  command: (image, cpus) => [...ours.command(image, cpus), '--apic', 'kernel'],
};

/** With every thread under its seccomp filter: what a system call costs more. */
export const oursSandboxed: Monitor = {
  name: 'apiary-sandbox',
  command: (image, cpus) => [...ours.command(image, cpus), '--sandbox'],
};

/** With every event of the guest's interrupts written to a file. */
export function oursTracing(directory: string): Monitor {
  const file = join(directory, 'trace.json');
  return { name: 'apiary-trace', command: (image, cpus) => [...ours.command(image, cpus), '--trace', file] };
}

function qemu(irqchip: 'off' | 'on'): Monitor {
  return {
    name: `qemu-${irqchip}`,
    command: (image, cpus) => [
      ...['qemu-system-x86_64', '-enable-kvm', '-M', `q35,kernel-irqchip=${irqchip}`, '-cpu', 'qemu64,+x2apic'],
      ...['-m', '64M', '-smp', String(cpus), '-display', 'none', '-nodefaults', '-no-user-config', '-no-reboot'],
      ...['-serial', 'stdio', '-device', 'isa-debug-exit,iobase=0xf4,iosize=4', '-kernel', image],
    ],
  };
}

/** QEMU with its own local APICs and with KVM's; none where it is not installed. */
export function qemuMonitors(): Monitor[] {
  return spawnSync('qemu-system-x86_64', ['--version']).status === 0 ? [qemu('off'), qemu('on')] : [];
}

/** Cycles for one operation, by operation: the median of the batches that came after V8 had warmed up. */
export type GuestFigures = ReadonlyMap<string, number>;

/** A guest that a busy or unsuited monitor does not finish is ended, and its figures up to then count. */
const GUEST_LIMIT_MS = 40_000;
/** The first batches run in V8's interpreter; under the other monitors they are left out as well. */
const WARM_UP = 1 / 3;

export async function runGuest(monitor: Monitor, image: string, cpus: number): Promise<GuestFigures> {
  const text = await output(monitor.command(guest(image), cpus));
  const batches = new Map<string, number[]>();
  for (const [, operation = '', count, cycles] of text.matchAll(/^bench (\S+) (\d+) (\d+)$/gm)) {
    const all = batches.get(operation) ?? [];
    batches.set(operation, all);
    all.push(Number(cycles) / Number(count));
  }
  return new Map(
    [...batches].map(([operation, all]) => [operation, median(all.slice(Math.floor(all.length * WARM_UP)))]),
  );
}

function output([program = '', ...args]: readonly string[], stderr: 'ignore' | 'inherit' = 'ignore'): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', stderr] });
    const chunks: Buffer[] = [];
    // SIGKILL: a QEMU whose vCPUs keep its big lock does not get to SIGTERM.
    const timer = setTimeout(() => child.kill('SIGKILL'), GUEST_LIMIT_MS);
    child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
    child.on('error', reject);
    child.on('close', () => {
      clearTimeout(timer);
      resolve(Buffer.concat(chunks).toString('latin1'));
    });
  });
}

/**
 * Runs a probe (a program of its own under plain node, as a user's would be).
 * @returns the JSON that it prints
 * @throws SyntaxError when it fails, which it says on stderr
 */
export async function runProbe<T>(name: string, ...args: readonly string[]): Promise<T> {
  return JSON.parse(await output([process.execPath, probe(name), ...args], 'inherit')) as T;
}
