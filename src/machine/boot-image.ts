/**
 * An image with all that comes with it, read from disk once and put into guest memory at each start of the machine,
 * together with the ACPI tables.
 */
import { readFile } from 'node:fs/promises';
import { type BootModule, type BootState, installAcpiTables, loadImage, writeFirmware } from '../boot/index.ts';
import { ConfigError } from './errors.ts';
import type { MachineConfig } from './options.ts';

export interface BootOptions {
  /** The kernel's command line, for formats that have one. */
  readonly commandLine?: string;
  /** Paths: the initrd, or a multiboot or PVH image's modules. */
  readonly modules?: readonly string[];
  /** Treats the image as raw real-mode code for this guest-physical address (below 1 MiB). */
  readonly loadAddress?: number;
}

export class BootImage {
  readonly #name: string;
  readonly #bytes: Uint8Array;
  readonly #modules: readonly BootModule[];
  readonly #options: BootOptions;

  private constructor(name: string, bytes: Uint8Array, modules: readonly BootModule[], options: BootOptions) {
    this.#name = name;
    this.#bytes = bytes;
    this.#modules = modules;
    this.#options = options;
  }

  /** @throws ConfigError when a file cannot be read */
  static async read(image: string | Uint8Array, options: BootOptions): Promise<BootImage> {
    const modules = (options.modules ?? []).map(async (path) => ({ name: path, bytes: await read('initrd', path) }));
    const name = typeof image === 'string' ? image : 'image';
    const bytes = typeof image === 'string' ? read('image', image) : image;
    const [contents, ...rest] = await Promise.all([bytes, ...modules]);
    return new BootImage(name, contents, rest, options);
  }

  /** @throws ImageError when it cannot be started */
  load(ram: Uint8Array, config: MachineConfig): BootState {
    const { commandLine, loadAddress } = this.#options;
    const acpi = installAcpiTables(ram, [
      ...config.cpus.map((apicId) => ({ apicId, present: true })),
      ...config.hotpluggable.map((apicId) => ({ apicId, present: false })),
    ]);
    writeFirmware(ram);
    return loadImage(this.#bytes, ram, {
      name: this.#name,
      modules: this.#modules,
      ...acpi,
      ...(commandLine === undefined ? {} : { commandLine }),
      ...(loadAddress === undefined ? {} : { loadAddress }),
    });
  }
}

const WHY: Readonly<Record<string, string>> = {
  ENOENT: 'no such file',
  EISDIR: 'it is a directory',
  EACCES: 'no permission to read it',
};

async function read(what: string, path: string): Promise<Uint8Array> {
  try {
    return await readFile(path);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? String(error);
    throw new ConfigError(`cannot read ${what} ${path}: ${WHY[code] ?? code}`);
  }
}
