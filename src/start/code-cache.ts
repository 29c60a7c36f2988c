/**
 * Runs one of the package's bundles with V8's code cache: what a program compiles at its start is compiled once for each build,
 * version of V8 and machine. It is kept beside the bundle; where that cannot be written (a package that root installed and has
 * not run), each run compiles. Only who may write the bundle may write there: cached code is code.
 *
 * A file is the data and its CRC-32. V8 checks the head of the data and runs the rest unseen, so what a disk has damaged would
 * crash every run. (Twice the data, compared, takes 4 ms more to read; node:crypto takes 8 to load.)
 */
import {
  closeSync,
  constants,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { Script } from 'node:vm';
import { threadId } from 'node:worker_threads';
import * as zlib from 'node:zlib';
import { offerToKeepCode } from './keep-code.ts';

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
/** Others may read it, only its owner may write it. */
const FOLDER_MODE = 0o755;
const FILE_MODE = 0o644;
const OTHERS_MAY_WRITE = 0o022;
const ROOT = 0;
const CHECKSUM_BYTES = 4;

export interface Cached {
  /** The file of a program that the build made a function of (test/package/entries.mjs). */
  readonly name: string;
  readonly folder: string;
  /** What the program requires by. */
  readonly require: NodeJS.Require;
  /** Whether the program may keep its code (keep-code.ts) where none is kept yet. */
  readonly mayKeep: boolean;
}

export function runCached({ name, folder, require, mayKeep }: Cached): void {
  const filename = join(folder, name);
  const text = readFileSync(filename, 'latin1');
  const digest = DIGEST.exec(text.slice(0, HEAD_CHARACTERS))?.[1];
  const file = {
    folder: join(folder, 'cache'),
    program: `${name}-`,
    key: `${digest}-${process.versions.v8}-${process.arch}`,
  };
  const cachedData = digest === undefined ? undefined : readCache(file);
  const script = new Script(text, {
    filename,
    ...(cachedData === undefined ? {} : { cachedData }),
  });
  const isKept = cachedData !== undefined && script.cachedDataRejected !== true;
  if (mayKeep && !isKept) offerToKeepCode(() => writeCache(file, () => script.createCachedData()));
  const module = { exports: {} };
  const importModule = (specifier: string): Promise<unknown> => import(specifier);
  (script.runInThisContext() as Program)(module.exports, require, module, filename, folder, importModule);
}

interface CacheFile {
  readonly folder: string;
  /** What the names of all files of one program begin with. */
  readonly program: string;
  readonly key: string;
}

/** @returns undefined where there is none, where another user could have written it, and where it is damaged */
function readCache({ folder, program, key }: CacheFile): Buffer | undefined {
  let file: number | undefined;
  try {
    // A symbolic link is refused; a FIFO does not hold us up.
    file = openSync(join(folder, program + key), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const stat = fstatSync(file);
    const isTrusted = stat.uid === ROOT || stat.uid === process.geteuid?.();
    if (!stat.isFile() || !isTrusted || (stat.mode & OTHERS_MAY_WRITE) !== 0) return undefined;
    const contents = readFileSync(file);
    const data = contents.subarray(0, -CHECKSUM_BYTES);
    return contents.readUInt32LE(data.length) === checksum(data) ? data : undefined;
  } catch {
    return undefined;
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

/** CRC-32; before Node 20.15 and 22.2, which have none, FNV-1a's like, by words but for the last bytes. */
function checksum(data: Buffer): number {
  if (typeof zlib.crc32 === 'function') return zlib.crc32(data);
  let hash = 0x811c_9dc5;
  let at = 0;
  for (; at + 4 <= data.length; at += 4) hash = mix(hash, data.readInt32LE(at));
  for (; at < data.length; at++) hash = mix(hash, data[at] ?? 0);
  return hash >>> 0;
}

/** The upper half comes down, so that no bit can only ever change itself. */
function mix(hash: number, word: number): number {
  const product = Math.imul(hash ^ word, 0x0100_0193);
  return product ^ (product >>> 16);
}

/** Whole or not at all, whoever else writes it. @param make called only where a file can be written */
function writeCache({ folder, program, key }: CacheFile, make: () => Buffer): void {
  const part = join(folder, `${program}${key}.${process.pid}-${threadId}`);
  try {
    makeFolder(folder);
    const file = openSync(part, 'wx', FILE_MODE);
    try {
      const data = make();
      const end = Buffer.alloc(CHECKSUM_BYTES);
      end.writeUInt32LE(checksum(data));
      writeFileSync(file, Buffer.concat([data, end]));
    } finally {
      closeSync(file);
    }
    renameSync(part, join(folder, program + key));
    for (const name of readdirSync(folder)) {
      if (name.startsWith(program) && name !== program + key) unlink(join(folder, name));
    }
  } catch {
    unlink(part);
  }
}

function makeFolder(folder: string): void {
  try {
    mkdirSync(folder, { mode: FOLDER_MODE });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}

function unlink(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // not there, or not ours to remove
  }
}
