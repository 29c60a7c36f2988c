/**
 * Runs one of the package's bundles with V8's code cache: what a program compiles at its start is compiled once for each build,
 * version of V8 and machine. The first run keeps it beside the bundle, or where that cannot be written (a package that root
 * installed) in the user's own cache folder; where neither can be, each run compiles. Only who may write the bundle, or is the
 * user, may write there: cached code is code.
 */
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { constants, Script } from 'node:vm';

type Program = (exports: object, require: NodeJS.Require, module: object, file: string, folder: string) => void;

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
    importModuleDynamically: constants?.USE_MAIN_CONTEXT_DEFAULT_LOADER ?? ((specifier) => import(specifier)),
    ...(cachedData === undefined ? {} : { cachedData }),
  });
  if (cachedData === undefined || script.cachedDataRejected === true) {
    keeper(() => writeCache(folder, key, script.createCachedData()));
  }
  const module = { exports: {} };
  (script.runInThisContext() as Program)(module.exports, require, module, filename, folder);
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

/** Whole or not at all, whoever else writes it. */
function writeCache(bundle: string, key: string, data: Buffer): void {
  for (const folder of cacheFolders(bundle)) {
    const part = join(folder, `${key}.${process.pid}`);
    try {
      mkdirSync(folder, { recursive: true });
      writeFileSync(part, data, { flag: 'wx' });
      renameSync(part, join(folder, key));
      return;
    } catch {
      rmSync(part, { force: true });
    }
  }
}
