/**
 * The programs that the lab runs, with every library they need, from one suite of Debian: they run by their own loader, so
 * that it does not matter which system this machine has.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fetchTree, type Stored, stored } from './store.ts';

/**
 * QEMU 11: since 10.2 its threads change a CPU's pending interrupts in one step, under 10.0 one can be lost; those before 10
 * abort when an interrupt meets a nested guest.
 */
const QEMU_SUITE = 'forky';
const BUSYBOX_SUITE = 'trixie';
/** Bochs 2.7, and the GRUB and xorriso of its time. */
const BOCHS_SUITE = 'bookworm';
const LIBRARIES = 'usr/lib/x86_64-linux-gnu';

export interface Tool {
  /** The program and its parameters, up to the user's own. */
  readonly command: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  readonly title: string;
}

export function qemu(): Tool {
  const kept = tree('qemu', QEMU_SUITE, ['qemu-system-x86']);
  const inTree = (path: string): string => join(kept.folder, path);
  return {
    command: [
      ...loaded(kept.folder, 'usr/bin/qemu-system-x86_64'),
      ...['-L', inTree('usr/share/qemu'), '-L', inTree('usr/share/seabios')],
    ],
    environment: { QEMU_MODULE_DIR: inTree(`${LIBRARIES}/qemu`) },
    title: title(kept, 'qemu-system-x86'),
  };
}

/** Bochs with its plugins, of which the terminal is the display that asks least of a machine. */
export function bochs(): Tool & { readonly bios: string; readonly vgaBios: string } {
  const kept = tree('bochs', BOCHS_SUITE, ['bochs', 'bochs-term', 'ncurses-base']);
  const inTree = (path: string): string => join(kept.folder, path);
  return {
    command: loaded(kept.folder, 'usr/bin/bochs-bin'),
    environment: {
      LTDL_LIBRARY_PATH: inTree(`${LIBRARIES}/bochs/plugins`),
      BXSHARE: inTree('usr/share/bochs'),
      TERMINFO: inTree('lib/terminfo'),
      TERM: 'linux',
    },
    title: title(kept, 'bochs'),
    bios: inTree('usr/share/bochs/BIOS-bochs-latest'),
    vgaBios: inTree('usr/share/vgabios/vgabios.bin'),
  };
}

/** What makes a CD that boots Linux by GRUB. */
export function cdTools(): { readonly grubMkimage: readonly string[]; readonly xorriso: readonly string[] } {
  const { folder } = tree('grub', BOCHS_SUITE, ['grub-pc-bin', 'xorriso']);
  return {
    grubMkimage: [...loaded(folder, 'usr/bin/grub-mkimage'), '--directory', join(folder, 'usr/lib/grub/i386-pc')],
    xorriso: loaded(folder, 'usr/bin/xorriso'),
  };
}

/** busybox-static: one file, which runs anywhere. */
export function busybox(): string {
  const kept = stored('busybox', (into, scratch) =>
    fetchTree(BUSYBOX_SUITE, () => ['busybox-static'], { into, scratch }),
  );
  return join(kept.folder, 'usr/bin/busybox');
}

function tree(name: string, suiteName: string, packages: readonly string[]): Stored {
  return stored(`${name}-${suiteName}`, (into, scratch) =>
    fetchTree(suiteName, (suite) => suite.withDependencies(packages), { into, scratch }),
  );
}

function loaded(folder: string, program: string): string[] {
  // Suites from before the merge of /lib and /usr/lib have libc, and some libraries, in /lib.
  const inTree = (path: string): string => join(folder, path);
  const loader = ['usr/lib64', 'lib64'].map((lib) => inTree(`${lib}/ld-linux-x86-64.so.2`)).find(existsSync);
  const libraries = [LIBRARIES, 'lib/x86_64-linux-gnu'].map(inTree).join(':');
  return [loader ?? '', '--library-path', libraries, inTree(program)];
}

function title({ packages }: Stored, name: string): string {
  return `${name} ${packages.find((each) => each.name === name)?.version ?? ''}`;
}
