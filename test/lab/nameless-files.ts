/**
 * Temporary files without names, which go with the processes that have them open. A program gets them as descriptors, and
 * opens them by the path that /proc has for each.
 */
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** The first descriptor after the standard three. */
const FIRST = 3;

export interface NamelessFile {
  readonly descriptor: number;
  /** How the program to which `descriptors` are given opens it. */
  readonly path: string;
}

export class NamelessFiles {
  readonly #descriptors: number[] = [];

  /** Those made so far, in the order in which they are to be the program's, after its standard ones. */
  get descriptors(): readonly number[] {
    return this.#descriptors;
  }

  /** `make` makes a file in the folder and answers its path; what else is in the folder goes. */
  make(make: (folder: string) => string): NamelessFile {
    const folder = mkdtempSync(join(tmpdir(), 'apiary-lab-'));
    try {
      const descriptor = openSync(make(folder), 'r+');
      const path = `/proc/self/fd/${FIRST + this.#descriptors.length}`;
      this.#descriptors.push(descriptor);
      return { descriptor, path };
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }

  withText(text: string): NamelessFile {
    return this.make((folder) => {
      const path = join(folder, 'text');
      writeFileSync(path, text);
      return path;
    });
  }

  close(): void {
    for (const descriptor of this.#descriptors) closeSync(descriptor);
  }
}
