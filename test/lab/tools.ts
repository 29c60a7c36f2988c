/**
 * The programs that the lab runs, with every library they need, from one suite of Debian: they run by their own loader, so
 * that it does not matter which system this machine has.
 */
import { join } from 'node:path';
import { fetchTree, type Stored, stored } from './store.ts';

/** QEMU 10: older ones abort when an interrupt meets a nested guest (assertion in tcg_handle_interrupt). */
const SUITE = 'trixie';
const LIBRARIES = 'usr/lib/x86_64-linux-gnu';

export interface Tool {
  /** The program and its parameters, up to the user's own. */
  readonly command: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  readonly title: string;
}

export function qemu(): Tool {
  const kept = tree('qemu', ['qemu-system-x86']);
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

/** busybox-static: one file, which runs anywhere. */
export function busybox(): string {
  const kept = stored('busybox', (into, scratch) => fetchTree(SUITE, () => ['busybox-static'], { into, scratch }));
  return join(kept.folder, 'usr/bin/busybox');
}

function tree(name: string, packages: readonly string[]): Stored {
  return stored(name, (into, scratch) =>
    fetchTree(SUITE, (suite) => suite.withDependencies(packages), { into, scratch }),
  );
}

function loaded(folder: string, program: string): string[] {
  const loader = join(folder, 'usr/lib64/ld-linux-x86-64.so.2');
  return [loader, '--library-path', join(folder, LIBRARIES), join(folder, program)];
}

function title({ packages }: Stored, name: string): string {
  return `${name} ${packages.find((each) => each.name === name)?.version ?? ''}`;
}
