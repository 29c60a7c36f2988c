/** What a host's kernel boots with: busybox, its modules, and init.sh, which knows what to do on each kind of host. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type ArchiveEntry, cpio } from './cpio.ts';
import type { HostKernel } from './kernel.ts';
import { busybox } from './tools.ts';

export function hostInitramfs({ modules }: HostKernel, more: readonly ArchiveEntry[]): Buffer {
  const init = readFileSync(fileURLToPath(new URL('init.sh', import.meta.url)));
  const order = modules.map(({ name }) => `${name}\n`).join('');
  const entries: ArchiveEntry[] = [
    { name: 'bin', mode: 0o755 },
    { name: 'bin/busybox', mode: 0o755, data: readFileSync(busybox()) },
    { name: 'init', mode: 0o755, data: init },
    { name: 'modules', mode: 0o755 },
    ...modules.map(({ name, data }) => ({ name: `modules/${name}.ko`, mode: 0o644, data })),
    { name: 'modules/order', mode: 0o644, data: Buffer.from(order) },
    ...more,
  ];
  return cpio(entries);
}
