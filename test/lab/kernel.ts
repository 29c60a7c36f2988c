/**
 * Kernels of lab hosts: Debian's, by series, or one that the user brings as a .deb, or as a vmlinuz and a folder of modules.
 * What is kept of a Debian kernel is its vmlinuz and the modules that a host loads.
 */
import { copyFileSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { unpack } from './apt.ts';
import { closure, type KernelModule } from './modules.ts';
import { fetchTree, type Stored, stored } from './store.ts';
import { LabTrouble } from './trouble.ts';

/** Which suite of Debian has which series, as its newest. */
export const SERIES: Readonly<Record<string, string>> = {
  '5.10': 'bullseye',
  '6.1': 'bookworm',
  '6.12': 'trixie',
  '7.2': 'forky',
};

/** What a host loads: its console and files, then KVM. Those that a kernel has built in, or does not have, are left out. */
const MODULES = ['virtio_pci', 'virtio_console', '9pnet_virtio', '9p', 'overlay', 'virtio_rng', 'kvm', 'kvm_amd'];
/** Flavours of Debian's kernel: the general one runs on anything, the cloud one is small and made for guests. */
export type Flavour = 'amd64' | 'cloud-amd64';

export interface HostKernel {
  readonly vmlinuz: string;
  /** In the order in which they load. */
  readonly modules: readonly KernelModule[];
  /** What it is, for a person. */
  readonly title: string;
}

/**
 * `what` is a series, the path of a .deb, or the path of a vmlinuz, which then needs `modules`: the folder that
 * /lib/modules has for it.
 */
export function hostKernel(what: string, { modules, busybox }: { modules?: string; busybox: string }): HostKernel {
  if (SERIES[what] !== undefined) {
    const kept = keptKernel(what, busybox);
    return {
      vmlinuz: join(kept.folder, 'vmlinuz'),
      modules: closure(join(kept.folder, 'modules'), MODULES, busybox),
      title: title(kept),
    };
  }
  const path = resolve(what);
  if (!existsSync(path)) {
    throw new LabTrouble(`--kernel ${what}: neither a file nor one of ${Object.keys(SERIES).join(', ')}`);
  }
  if (path.endsWith('.deb')) return unpackedKernel(path, busybox);
  if (modules === undefined) {
    throw new LabTrouble(
      `--kernel ${what}: say where its modules are: --modules FOLDER (what /lib/modules has for it)`,
    );
  }
  if (!existsSync(modules)) throw new LabTrouble(`--modules ${modules}: no such folder`);
  return { vmlinuz: path, modules: closure(resolve(modules), MODULES, busybox), title: path };
}

/** A Debian kernel to boot as a guest: the vmlinuz alone. */
export function guestKernel(series: string, flavour: Flavour): { vmlinuz: string; title: string } {
  const kept = stored(`guest-kernel-${series}-${flavour}`, (into, scratch) => {
    const tree = join(scratch, 'tree');
    const packages = fetchKernel(series, flavour, { into: tree, scratch });
    copyFileSync(findVmlinuz(tree), join(into, 'vmlinuz'));
    return packages;
  });
  return { vmlinuz: join(kept.folder, 'vmlinuz'), title: title(kept) };
}

function keptKernel(series: string, busybox: string): Stored {
  return stored(`kernel-${series}`, (into, scratch) => {
    const tree = join(scratch, 'tree');
    const packages = fetchKernel(series, 'amd64', { into: tree, scratch });
    keep(tree, into, busybox);
    return packages;
  });
}

function unpackedKernel(deb: string, busybox: string): HostKernel {
  // A file has no version to go by: it is unpacked for each run.
  const kept = stored(`kernel-of-${basename(deb)}`, (into, scratch) => {
    const tree = join(scratch, 'tree');
    unpack(deb, tree);
    keep(tree, into, busybox);
    return [];
  });
  return {
    vmlinuz: join(kept.folder, 'vmlinuz'),
    modules: closure(join(kept.folder, 'modules'), MODULES, busybox),
    title: basename(deb),
  };
}

function keep(tree: string, into: string, busybox: string): void {
  copyFileSync(findVmlinuz(tree), join(into, 'vmlinuz'));
  mkdirSync(join(into, 'modules'));
  for (const { name, data } of closure(tree, MODULES, busybox)) {
    writeFileSync(join(into, 'modules', `${name}.ko`), data);
  }
}

/** The suite's newest kernel must be of the series. Newer kernels are split into packages that the image depends on. */
function fetchKernel(series: string, flavour: Flavour, place: { into: string; scratch: string }) {
  const suiteName = SERIES[series] ?? '';
  return fetchTree(
    suiteName,
    (suite) => {
      const image = named(suite.field(`linux-image-${flavour}`, 'Depends')).find((name) => /^linux-image-/.test(name));
      if (image === undefined) throw new LabTrouble(`Debian ${suiteName} has no linux-image-${flavour}`);
      if (!image.startsWith(`linux-image-${series}.`)) {
        throw new LabTrouble(`Debian ${suiteName} has ${image} now, not ${series}: bring a .deb: --kernel FILE`);
      }
      const parts = named(suite.field(image, 'Depends')).filter((name) => /^linux-(binary|modules)-/.test(name));
      return parts.length > 0 ? parts : [image];
    },
    place,
  );
}

/** The names in a Depends field. */
function named(depends = ''): string[] {
  return depends.split(/[,|]/).map((each) => each.trim().split(' ')[0] ?? '');
}

function findVmlinuz(tree: string): string {
  const names = readdirSync(tree, { recursive: true, encoding: 'utf8' });
  const found = names.find((name) => /(^|\/)vmlinuz[^/]*$/.test(name));
  if (found === undefined) throw new LabTrouble('no vmlinuz in the kernel package: bring the one that has it');
  return join(tree, found);
}

function title({ packages }: Stored): string {
  return packages.map(({ name, version }) => `${name} ${version}`).join(', ');
}
