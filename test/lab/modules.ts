/**
 * Which of a kernel's modules a host needs, and in which order they load. depmod has not run on a package that was only
 * unpacked, so the dependencies come from the modules themselves: each says `depends=a,b` in its .modinfo section.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { LabTrouble } from './trouble.ts';

export interface KernelModule {
  /** With underscores, as the kernel has it. */
  readonly name: string;
  /** The ELF file, not compressed. */
  readonly data: Buffer;
}

const FILE = /\.ko(\.xz|\.zst|\.gz)?$/;

/** How each ending is undone: a tool, and its parameters, that reads the file given last and writes to its output. */
const TOOLS: Readonly<Record<string, readonly string[]>> = {
  '.xz': ['xz', '-dc'],
  '.zst': ['zstd', '-dcq'],
  '.gz': ['gzip', '-dc'],
};

/**
 * These modules and all that they depend on, in the order in which they load. A name that is not in the folder is built
 * into the kernel, or the kernel does not know it: it is left out. `busybox` unpacks where the machine lacks a tool.
 */
export function closure(folder: string, names: readonly string[], busybox: string): KernelModule[] {
  const files = moduleFiles(folder);
  const loaded = new Map<string, KernelModule>();
  const need = (name: string): void => {
    const file = files.get(name);
    if (file === undefined || loaded.has(name)) return;
    const data = read(file, busybox);
    for (const dependency of dependencies(data)) need(dependency);
    loaded.set(name, { name, data });
  };
  for (const name of names) need(canonical(name));
  return [...loaded.values()];
}

/** What a module needs loaded before it. */
export function dependencies(data: Buffer): string[] {
  const start = data.indexOf('\0depends=') + '\0depends='.length;
  const end = data.indexOf('\0', start);
  const list = start < '\0depends='.length ? '' : data.toString('latin1', start, end);
  return list.split(',').filter(Boolean).map(canonical);
}

function canonical(name: string): string {
  return name.replaceAll('-', '_');
}

function moduleFiles(folder: string): Map<string, string> {
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => FILE.test(name));
  return new Map(names.map((name) => [canonical(basename(name).replace(FILE, '')), join(folder, name)]));
}

function read(file: string, busybox: string): Buffer {
  const [tool, ...parameters] = TOOLS[FILE.exec(file)?.[1] ?? ''] ?? [];
  if (tool === undefined) return readFileSync(file);
  for (const words of [[tool], [busybox, tool]]) {
    const [command = '', ...more] = words;
    const { status, stdout } = spawnSync(command, [...more, ...parameters, file], { maxBuffer: 1 << 28 });
    if (status === 0) return stdout;
  }
  throw new LabTrouble(`${file}: cannot be unpacked here: install ${tool}`);
}
