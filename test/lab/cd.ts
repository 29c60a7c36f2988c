/** A CD that boots a Linux kernel with an initramfs by GRUB, and has files of the machine for it. */
import { spawnSync } from 'node:child_process';
import { realpathSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { GRUB_MODULES, grubConfig } from './bochs.ts';
import { cdTools } from './tools.ts';
import { LabTrouble } from './trouble.ts';

export interface CdContent {
  readonly vmlinuz: string;
  readonly initramfs: Uint8Array;
  readonly commandLine: string;
  /** Absolute paths; they lie below /files as they lie here. */
  readonly files: readonly string[];
}

/** The folder of the CD that has them. */
const FILES = 'files';

/** Makes it in `folder` and answers its path. */
export function makeCd({ vmlinuz, initramfs, commandLine, files }: CdContent, folder: string): string {
  const { grubMkimage, xorriso } = cdTools();
  const at = (name: string): string => join(folder, name);
  writeFileSync(at('grub.cfg'), grubConfig(commandLine));
  writeFileSync(at('initrd'), initramfs);
  const own = { 'grub.img': at('grub.img'), vmlinuz, initrd: at('initrd') };
  const grafts = [...Object.entries(own), ...files.map((path) => [`${FILES}${path}`, realpathSync(path)] as const)];
  writeFileSync(at('list'), grafts.map(([name, path]) => `${graftable(name)}=${graftable(path)}\n`).join(''));
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
    // -r: all is root's and can be read. -D: folders as deep as they are.
    ...[...xorriso, '-as', 'mkisofs', '-quiet', '-r', '-D', '-o', at('cd.iso')],
    ...['-b', 'grub.img', '-no-emul-boot', '-boot-load-size', '4', '-boot-info-table', '--grub2-boot-info'],
    ...['-graft-points', '-path-list', at('list')],
  ]);
  return at('cd.iso');
}

/** A name or path as a line of xorriso's list has it. */
export function graftable(path: string): string {
  return path.replaceAll(/[\\=]/g, '\\$&');
}

function run([program = '', ...parameters]: readonly string[]): void {
  const { status, stderr } = spawnSync(program, parameters, { encoding: 'utf8' });
  if (status !== 0) throw new LabTrouble(`the boot CD cannot be made: ${stderr.trim().split('\n').at(-1)}`);
}
