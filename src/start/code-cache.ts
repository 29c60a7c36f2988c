/**
 * Runs one of the package's bundles with V8's code cache: what a program compiles at its start is compiled once for each build,
 * version of V8 and machine. The first run keeps it beside the bundle, or where that cannot be written (a package that root
 * installed) in the user's own cache folder; where neither can be, each run compiles. Only who may write the bundle, or is the
 * user, may write there: cached code is code.
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Script } from 'node:vm';

/** `importModule` is what the program's `import()` has become: Node has none for a script with a code cache, or warns of it. */
type Program = (
  ...wrapped: [
    exports: object,
    require: NodeJS.Require,
    module: object,
    __filename: string,
    __dirname: string,
    importModule: (specifier: string) => Promise<unknown>,
  ]
) => void;

/** The build puts it at the head of each program, since V8 looks only at a text's length: two slashes, then these digits. */
const DIGEST = /\/\/([\da-f]{16})\n/;
/** Where it is looked for. */
const HEAD_CHARACTERS = 100;

export interface Cached {
  /** The file of a program that the build made a function of (test/package/entries.mjs). */
  readonly name: string;
  readonly folder: string;
  /** What the program requires by. */
  readonly require: NodeJS.Require;
  /** Takes what keeps the code that is compiled at the time of the call. Called only where none is kept yet. */
  readonly keeper: (keep: () => void) => void;
}

export function runCached({ name, folder, require, keeper }: Cached): void {
  const filename = join(folder, name);
  const text = readFileSync(filename, 'latin1');
  const digest = DIGEST.exec(text.slice(0, HEAD_CHARACTERS))?.[1];
  const key = `${digest}-${process.versions.v8}-${process.arch}`;
  const cachedData = digest === undefined ? undefined : readCache(folder, key);
  const script = new Script(text, {
    filename,
    ...(cachedData === undefined ? {} : { cachedData }),
  });
  if (cachedData === undefined || script.cachedDataRejected === true) {
    keeper(() => writeCache(folder, key, script.createCachedData()));
  }
  const module = { exports: {} };
  const importModule = (specifier: string): Promise<unknown> => import(specifier);
  (script.runInThisContext() as Program)(module.exports, require, module, filename, folder, importModule);
}

/** Beside the bundle; then the user's. */
function cacheFolders(bundle: string): string[] {
  const { XDG_CACHE_HOME, HOME } = process.env;
  const own = XDG_CACHE_HOME || (HOME && join(HOME, '.cache'));
  return [join(bundle, 'cache'), ...(own ? [join(own, 'apiary')] : [])];
}

function readCache(bundle: string, key: string): Buffer | undefined {
  for (const folder of cacheFolders(bundle)) {
    try {
      return readFileSync(join(folder, key));
    } catch {
      // the next one
    }
  }
  return undefined;
}

function writeCache(bundle: string, key: string, data: Buffer): void {
  cacheFolders(bundle).some((folder) => {
    const part = join(folder, `${key}.${process.pid}`);
    try {
      mkdirSync(folder, { recursive: true });
      writeFileSync(part, data, { flag: 'wx' });
      renameSync(part, join(folder, key)); // whole or not at all, whoever else writes it
      return true;
    } catch {
      return false;
    }
  });
}
