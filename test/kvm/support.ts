/**
 * What the tests of the machine and of the command share: a reason to skip where guests cannot run, guests by name or from
 * a few lines of assembly, and the command as a child process.
 */
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Machine, type MachineOptions, type RunResult } from 'apiary';
import { describe, vi } from 'vitest';
import { kvmProblem } from './bindings-guest.ts';

const problem = kvmProblem();

/** As `describe`, but skipped, with the reason in its name, where guests cannot run. */
export function describeKvm(name: string, tests: () => void): void {
  describe.skipIf(problem !== undefined)(`${name}${problem === undefined ? '' : ` (skipped: ${problem})`}`, tests);
}

const path = (relative: string): string => fileURLToPath(new URL(`../../${relative}`, import.meta.url));

export const COMMAND = path('dist/cli/main.js');

export function guestImage(name: string): string {
  return path(`guest/build/${name}.elf`);
}

/** How long a guest may take on a host that is busy with other things. */
export const SLOW_HOST_MS = 60_000;
vi.setConfig({ testTimeout: SLOW_HOST_MS, hookTimeout: SLOW_HOST_MS });

/** The exit value of a guest that writes 0 to the debug exit port. */
export const GUEST_OK = 1;

/** Where `assemble` puts code, and what `load` needs to know. */
export const REAL_MODE = { loadAddress: 0x1000 } as const;

/** Real-mode code for address 0x1000 (GNU as, AT&T syntax, `_start` first). */
export function assemble(source: string): Uint8Array {
  const directory = mkdtempSync(join(tmpdir(), 'apiary-'));
  try {
    const file = (name: string): string => join(directory, name);
    writeFileSync(file('guest.S'), `.code16\n.global _start\n_start:\n${source}\n`);
    tool('as', ['--32', '-o', file('guest.o'), file('guest.S')]);
    tool('ld', ['-m', 'elf_i386', '-Ttext', '0x1000', '--oformat', 'binary', '-o', file('guest'), file('guest.o')]);
    return readFileSync(file('guest'));
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function tool(name: string, parameters: string[]): void {
  const { status, stderr, error } = spawnSync(name, parameters, { encoding: 'utf8' });
  if (status !== 0) throw error ?? new Error(`${name}: ${stderr}`);
}

/** Ends the machine with exit status 1. */
export const EXIT_OK = 'xor %al, %al\n out %al, $0xf4\n';

/** x2APIC mode, whose registers are MSRs and so within reach of real mode. */
export const X2APIC_MODE = `
    mov $0x1b, %ecx
    rdmsr
    or $0xc00, %eax
    wrmsr
    mov $0x80f, %ecx            # SVR: software-enabled, spurious vector 0xff
    mov $0x1ff, %eax
    xor %edx, %edx
    wrmsr
`;

/** ICR by MSR: `low` as the manual has it, to one x2APIC ID. */
export function sendIpi(low: number, apicId: number): string {
  return `
    mov $0x830, %ecx
    mov $${low}, %eax
    mov $${apicId}, %edx
    wrmsr
`;
}

/** INIT and SIPI: the CPU starts at 0x2000. */
export function startCpu(apicId: number): string {
  return `${sendIpi(0x4500, apicId)}${sendIpi(0x4602, apicId)}`;
}

export interface Finished {
  readonly result: RunResult;
  readonly text: string;
}

export async function runGuest(
  image: string | Uint8Array,
  options: MachineOptions = {},
  meanwhile: (machine: Machine) => void = () => {},
): Promise<Finished> {
  const machine = await Machine.create({ timeoutMs: SLOW_HOST_MS, ...options });
  let text = '';
  machine.on('serial', (chunk) => {
    text += chunk.toString('latin1');
  });
  try {
    await machine.load(image, typeof image === 'string' ? {} : REAL_MODE);
    const running = machine.run();
    meanwhile(machine);
    return { result: await running, text };
  } finally {
    await machine.stop();
  }
}

/** Until `condition` holds. Throws after `millis`. */
export async function until(condition: () => boolean, millis = 5000): Promise<void> {
  const end = performance.now() + millis;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`waited ${millis} ms for: ${condition}`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

/** What a run must not leave behind: this process's threads and the descriptors of KVM. */
export function leftovers(): { threads: number; descriptors: string[] } {
  const descriptors = readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      const target = readlinkSync(`/proc/self/fd/${fd}`);
      return /^\/dev\/kvm|kvm-v/.test(target) ? [target] : [];
    } catch {
      return []; // the descriptor of the directory itself
    }
  });
  return { threads: readdirSync('/proc/self/task').length, descriptors: descriptors.sort() };
}

export interface CommandResult {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** `apiary <parameters>` with nothing to read. */
export function command(parameters: readonly string[], options: { cwd?: string } = {}): Promise<CommandResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [COMMAND, ...parameters], {
      ...options,
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: SLOW_HOST_MS,
      killSignal: 'SIGKILL',
    });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (chunk) => {
      stdout += chunk;
    });
    child.stderr.on('data', (chunk) => {
      stderr += chunk;
    });
    child.once('error', reject);
    child.once('close', (status, signal) => resolve({ status, signal, stdout, stderr }));
  });
}
