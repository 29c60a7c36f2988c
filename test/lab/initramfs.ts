/** What a host's kernel boots with: busybox, its modules, init.sh, which knows what to do on each kind of host, and stay.S. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type ArchiveEntry, cpio } from './cpio.ts';
import type { HostKernel } from './kernel.ts';
import { busybox } from './tools.ts';
import { LabTrouble } from './trouble.ts';

export function hostInitramfs({ modules }: HostKernel, more: readonly ArchiveEntry[]): Buffer {
  const init = readFileSync(fileURLToPath(new URL('init.sh', import.meta.url)));
  const order = modules.map(({ name }) => `${name}\n`).join('');
  const entries: ArchiveEntry[] = [
    { name: 'bin', mode: 0o755 },
    { name: 'bin/busybox', mode: 0o755, data: readFileSync(busybox()) },
    { name: 'bin/stay', mode: 0o755, data: assembled('stay.S') },
    { name: 'init', mode: 0o755, data: init },
    { name: 'modules', mode: 0o755 },
    ...modules.map(({ name, data }) => ({ name: `modules/${name}.ko`, mode: 0o644, data })),
    { name: 'modules/order', mode: 0o644, data: Buffer.from(order) },
    ...more,
  ];
  return cpio(entries);
}

/** The static program that a source beside this file makes, by the assembler and linker that the guests are built with. */
function assembled(source: string): Buffer {
  const folder = mkdtempSync(join(tmpdir(), 'apiary-lab-'));
  try {
    const object = join(folder, 'object');
    const program = join(folder, 'program');
    run('as', ['--64', '--fatal-warnings', '-o', object, fileURLToPath(new URL(source, import.meta.url))]);
    run('ld', ['-m', 'elf_x86_64', '-static', '-nostdlib', '-z', 'noexecstack', '-s', '-o', program, object]);
    return readFileSync(program);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function run(tool: string, parameters: readonly string[]): void {
  const { error, status, stderr } = spawnSync(tool, parameters, { encoding: 'utf8' });
  if (error) throw new LabTrouble(`no ${tool} on this machine: install binutils`);
  if (status !== 0) throw new LabTrouble(`${tool} failed: ${stderr.trim()}`);
}
