/**
 * The source as it is, or with a mutant's edit, together with what judges it, in one script for a thread. Nothing is written:
 * the changed file exists only in the bundle.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type BuildContext, context, type Metafile, type Plugin } from 'esbuild';
import { type Mutant, mutate } from './mutant.ts';

const ROOT = new URL('../..', import.meta.url).pathname;

/** Where the bundle stands, for who asks: nowhere. */
const MODULE_URL = { 'import.meta.url': 'moduleUrl' };
const BANNER = `const moduleUrl = require('node:url').pathToFileURL(${JSON.stringify(join(ROOT, 'test/mutants/thread.ts'))}).href;`;

type Context = BuildContext<{ write: false; metafile: true }>;

export interface Built {
  readonly code: string;
  /** What it was made of, and what each imports. */
  readonly inputs: Metafile['inputs'];
}

export class Bundle {
  readonly #context: Context;
  readonly #change: Change;
  /** One build at a time. */
  #last: Promise<unknown> = Promise.resolve();

  private constructor(built: Context, change: Change) {
    this.#context = built;
    this.#change = change;
  }

  /** @param script imports from the repository's root */
  static async of(script: string): Promise<Bundle> {
    const change: Change = { path: '', contents: '' };
    const built = await context({
      stdin: { contents: script, resolveDir: ROOT, loader: 'ts' },
      absWorkingDir: ROOT,
      bundle: true,
      write: false,
      metafile: true,
      platform: 'node',
      target: 'node20',
      format: 'cjs',
      external: ['koffi'],
      logLevel: 'silent',
      define: MODULE_URL,
      banner: { js: BANNER },
      plugins: [inMemory(change)],
    });
    return new Bundle(built, change);
  }

  /** @throws when the mutant is no program */
  build(mutant?: Mutant): Promise<Built> {
    const built = this.#last.then(async () => {
      Object.assign(this.#change, mutant === undefined ? { path: '', contents: '' } : changed(mutant));
      const { outputFiles, metafile } = await this.#context.rebuild();
      return { code: outputFiles[0]?.text ?? '', inputs: metafile.inputs };
    });
    this.#last = built.catch(() => {});
    return built;
  }

  dispose(): Promise<void> {
    return this.#context.dispose();
  }
}

interface Change {
  path: string;
  contents: string;
}

function changed(mutant: Mutant): Change {
  const path = join(ROOT, mutant.file);
  return { path, contents: mutate(readFileSync(path, 'utf8'), mutant) };
}

/** The changed file; and for 'vitest' what can do without its server. */
const inMemory = (change: Change): Plugin => ({
  name: 'in-memory',
  setup: (build) => {
    build.onResolve({ filter: /^vitest$/ }, () => ({ path: join(ROOT, 'test/mutants/vitest.ts') }));
    build.onLoad({ filter: /\.ts$/ }, ({ path }) =>
      path === change.path ? { contents: change.contents, loader: 'ts' } : undefined,
    );
  },
});

/** @returns the files that `file` imports, itself among them, from the repository's root */
export function imported(inputs: Metafile['inputs'], file: string): ReadonlySet<string> {
  const found = new Set<string>();
  const visit = (path: string): void => {
    if (found.has(path)) return;
    found.add(path);
    for (const each of inputs[path]?.imports ?? []) if (each.external !== true) visit(each.path);
  };
  visit(file);
  return found;
}
