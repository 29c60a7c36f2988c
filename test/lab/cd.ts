/** A CD that boots a Linux kernel with an initramfs by GRUB. */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { GRUB_MODULES, grubConfig } from './bochs.ts';
import { cdTools } from './tools.ts';
import { LabTrouble } from './trouble.ts';

export interface CdContent {
  readonly vmlinuz: string;
  readonly initramfs: Uint8Array;
  readonly commandLine: string;
}

/** Makes it in `folder` and answers its path. */
export function makeCd({ vmlinuz, initramfs, commandLine }: CdContent, folder: string): string {
  const { grubMkimage, xorriso } = cdTools();
  const at = (name: string): string => join(folder, name);
  writeFileSync(at('grub.cfg'), grubConfig(commandLine));
  writeFileSync(at('initrd'), initramfs);
  const boot = [
    '--format',
    'i386-pc-eltorito',
    '--config',
    at('grub.cfg'),
    '--prefix',
    '/',
    '--output',
    at('grub.img'),
  ];
  run([...grubMkimage, ...boot, ...GRUB_MODULES]);
  run([
    ...[...xorriso, '-as', 'mkisofs', '-quiet', '-R', '-o', at('cd.iso')],
    ...['-b', 'grub.img', '-no-emul-boot', '-boot-load-size', '4', '-boot-info-table', '--grub2-boot-info'],
    ...['-graft-points', `grub.img=${at('grub.img')}`, `vmlinuz=${vmlinuz}`, `initrd=${at('initrd')}`],
  ]);
  return at('cd.iso');
}

function run([program = '', ...parameters]: readonly string[]): void {
  const { status, stderr } = spawnSync(program, parameters, { encoding: 'utf8' });
  if (status !== 0) throw new LabTrouble(`the boot CD cannot be made: ${stderr.trim().split('\n').at(-1)}`);
}
