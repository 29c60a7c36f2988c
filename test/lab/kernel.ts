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

export type HostKind = 'svm' | 'vmx';
/** What a host loads: its console and files, then KVM. Those that a kernel has built in, or does not have, are left out. */
const MODULES: Readonly<Record<HostKind, readonly string[]>> = {
  svm: ['virtio_pci', 'virtio_console', '9pnet_virtio', '9p', 'overlay', 'virtio_rng', 'kvm', 'kvm_amd'],
  vmx: ['ata_piix', 'sr_mod', 'isofs', 'overlay', 'kvm', 'kvm_intel'],
};
/** Flavours of Debian's kernel: the general one runs on anything, the cloud one is small and made for guests. */
export type Flavour = 'amd64' | 'cloud-amd64';

export interface HostKernel {
  readonly vmlinuz: string;
  /** In the order in which they load. */
  readonly modules: readonly KernelModule[];
  /** What it is, for a person. */
  readonly title: string;
}

interface Needs {
  readonly kind: HostKind;
  /** busybox, to unpack with. */
  readonly busybox: string;
}

/**
 * `what` is a series, the path of a .deb, or the path of a vmlinuz, which then needs `modules`: the folder that
 * /lib/modules has for it.
 */
export function hostKernel(what: string, needs: Needs & { readonly modules?: string }): HostKernel {
  const { modules } = needs;
  if (SERIES[what] !== undefined) {
    const kept = keptKernel(what, needs);
    return { ...fromKept(kept.folder, needs), title: title(kept) };
  }
  const path = resolve(what);
  if (!existsSync(path)) {
    throw new LabTrouble(`--kernel ${what}: neither a file nor one of ${Object.keys(SERIES).join(', ')}`);
  }
  if (path.endsWith('.deb')) return unpackedKernel(path, needs);
  if (modules === undefined) {
    throw new LabTrouble(
      `--kernel ${what}: say where its modules are: --modules FOLDER (what /lib/modules has for it)`,
    );
  }
  if (!existsSync(modules)) throw new LabTrouble(`--modules ${modules}: no such folder`);
  return { vmlinuz: path, modules: needed(resolve(modules), needs), title: path };
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

function keptKernel(series: string, needs: Needs): Stored {
  return stored(`kernel-${series}${suffix(needs)}`, (into, scratch) => {
    const tree = join(scratch, 'tree');
    const packages = fetchKernel(series, 'amd64', { into: tree, scratch });
    keep(tree, into, needs);
    return packages;
  });
}

function unpackedKernel(deb: string, needs: Needs): HostKernel {
  const kept = stored(`kernel-of-${basename(deb)}${suffix(needs)}`, (into, scratch) => {
    const tree = join(scratch, 'tree');
    unpack(deb, tree);
    keep(tree, into, needs);
    return [];
  });
  return { ...fromKept(kept.folder, needs), title: basename(deb) };
}

/** Each kind of host keeps its own modules. */
const suffix = ({ kind }: Needs): string => (kind === 'svm' ? '' : `-${kind}`);

function keep(tree: string, into: string, needs: Needs): void {
  copyFileSync(findVmlinuz(tree), join(into, 'vmlinuz'));
  mkdirSync(join(into, 'modules'));
  for (const { name, data } of needed(tree, needs)) writeFileSync(join(into, 'modules', `${name}.ko`), data);
}

function fromKept(folder: string, needs: Needs): Omit<HostKernel, 'title'> {
  return { vmlinuz: join(folder, 'vmlinuz'), modules: needed(join(folder, 'modules'), needs) };
}

function needed(folder: string, { kind, busybox }: Needs): KernelModule[] {
  return closure(folder, MODULES[kind], busybox);
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
