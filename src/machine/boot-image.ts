/**
 * An image with all that comes with it, read from disk once and put into guest memory at each start of the machine,
 * together with the ACPI tables.
 */
import { fileURLToPath } from 'node:url';
import { type BootModule, type BootState, installAcpiTables, loadImage, writeFirmware } from '../boot/index.ts';
import { ConfigError } from './errors.ts';
import { type InputBytes, readImage, readModule } from './input-file.ts';
import type { MachineConfig } from './options.ts';
import { checkShapes, NUMBER, type Shapes, TEXT, TEXTS } from './shapes.ts';

/** What goes with an image, where its format has a place for it; a format that has none refuses it. */
export interface BootOptions {
  /** The kernel's command line, for formats that have one. */
  readonly commandLine?: string;
  /** Paths: the initrd, or a multiboot or PVH image's modules. */
  readonly modules?: readonly string[];
  /** Treats the image as raw real-mode code for this guest-physical address (below 1 MiB). */
  readonly loadAddress?: number;
}

const SHAPES: Shapes<BootOptions> = { commandLine: TEXT, modules: TEXTS, loadAddress: NUMBER };

/** A raw image lies below 1 MiB. */
const REAL_MODE_BYTES = 0x10_0000;

export class BootImage {
  readonly #name: string;
  readonly #contents: InputBytes;
  readonly #modules: readonly BootModule[];
  readonly #options: BootOptions;

  private constructor(name: string, contents: InputBytes, modules: readonly BootModule[], options: BootOptions) {
    this.#name = name;
    this.#contents = contents;
    this.#modules = modules;
    this.#options = options;
  }

  /**
   * @param memoryBytes guest RAM: no more is read
   * @throws ConfigError when a file cannot be read; ImageError when the image is none; the signal's reason
   */
  static async read(
    image: string | URL | Uint8Array,
    options: BootOptions,
    memoryBytes: number,
    signal?: AbortSignal,
  ): Promise<BootImage> {
    checkShapes('load option', options, SHAPES);
    if (typeof image !== 'string' && !(image instanceof URL) && !(image instanceof Uint8Array)) {
      throw new ConfigError('the image must be a path, a file URL or a Uint8Array');
    }
    const source = image instanceof URL ? fileURLToPath(image) : image;
    const name = typeof source === 'string' ? source : 'image';
    const maxBytes = options.loadAddress === undefined ? memoryBytes : Math.min(memoryBytes, REAL_MODE_BYTES);
    const contents = await readImage(source, name, { maxBytes, signal });
    const modules: BootModule[] = [];
    let left = memoryBytes;
    for (const path of options.modules ?? []) {
      const bytes = await readModule(path, { maxBytes: left, signal });
      modules.push({ name: path, bytes });
      left -= bytes.length;
    }
    return new BootImage(name, contents, modules, options);
  }

  /** @throws ImageError when it cannot be started */
  load(ram: Uint8Array, config: MachineConfig): BootState {
    const { commandLine, loadAddress } = this.#options;
    const acpi = installAcpiTables(ram, [
      ...config.cpus.map((apicId) => ({ apicId, present: true })),
      ...config.hotpluggable.map((apicId) => ({ apicId, present: false })),
    ]);
    writeFirmware(ram);
    return loadImage(this.#contents.bytes, ram, {
      name: this.#name,
      isCut: this.#contents.isCut,
      modules: this.#modules,
      ...acpi,
      ...(commandLine === undefined ? {} : { commandLine }),
      ...(loadAddress === undefined ? {} : { loadAddress }),
    });
  }
}
