/**
 * The folder that holds what the lab has fetched: `.lab/` beside package.json, which git ignores, or $APIARY_LAB. Each thing
 * in it is a folder with the packages it came from in packages.json; a half-made one is never seen.
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Package, Suite, unpack } from './apt.ts';

const folder = resolve(process.env.APIARY_LAB ?? fileURLToPath(new URL('../../.lab', import.meta.url)));
const MANIFEST = 'packages.json';

/** What a thing came from. */
export type Origin = Omit<Package, 'file'>;

export interface Stored {
  readonly folder: string;
  readonly packages: readonly Origin[];
}

/**
 * The thing of this name: what is there, or what `make` lays into an empty folder. `make` also gets a folder for what it
 * needs on the way.
 */
export function stored(name: string, make: (into: string, scratch: string) => readonly Package[]): Stored {
  const place = join(folder, name);
  if (!existsSync(join(place, MANIFEST))) {
    mkdirSync(folder, { recursive: true });
    const scratch = mkdtempSync(join(folder, 'making-'));
    try {
      const into = join(scratch, 'made');
      mkdirSync(into);
      const packages = make(into, scratch).map(({ name, version, sha256 }) => ({ name, version, sha256 }));
      tell(packages, join(place, MANIFEST));
      writeFileSync(join(into, MANIFEST), JSON.stringify(packages, undefined, 2));
      rmSync(place, { recursive: true, force: true });
      renameSync(into, place);
    } finally {
      rmSync(scratch, { recursive: true, force: true });
    }
  }
  return { folder: place, packages: JSON.parse(readFileSync(join(place, MANIFEST), 'utf8')) };
}

/** More than a few packages are one program and the libraries that it needs. */
const FEW = 3;

function tell(packages: readonly Origin[], manifest: string): void {
  const told =
    packages.length > FEW
      ? packages.filter(({ name }) => /^(qemu-system-x86|bochs|seabios|grub-pc-bin|xorriso)$/.test(name))
      : packages;
  for (const { name, version, sha256 } of told) say(`${name} ${version} sha256 ${sha256}`);
  const others = packages.length - told.length;
  if (others > 0) say(`and ${others} packages that it needs: versions and checksums are in ${manifest}`);
}

/** Forgets everything, so that it is fetched again. */
export function forget(): void {
  rmSync(folder, { recursive: true, force: true });
}

/** Fetches packages of a suite and unpacks them into one tree. `choose` names them, asking the suite. */
export function fetchTree(
  suiteName: string,
  choose: (suite: Suite) => readonly string[],
  { into, scratch }: { into: string; scratch: string },
): Package[] {
  say(`fetching from Debian ${suiteName} ...`);
  const suite = Suite.open(suiteName, join(scratch, 'apt'));
  const downloads = join(scratch, 'packages');
  mkdirSync(downloads);
  const packages = suite.download(choose(suite), downloads);
  for (const { file } of packages) unpack(file, into);
  return packages;
}

/** A file of the store with this content, named after it; what is there is used again. */
export function contentFile(name: string, content: Uint8Array): string {
  const hash = createHash('sha256').update(content).digest('hex').slice(0, 16);
  const file = join(folder, `${name}-${hash}`);
  if (!existsSync(file)) {
    mkdirSync(folder, { recursive: true });
    writeFileSync(`${file}.${process.pid}`, content);
    renameSync(`${file}.${process.pid}`, file);
  }
  return file;
}

/** The lab's own lines go to standard error: standard output is the command's. */
export function say(text: string): void {
  process.stderr.write(`lab: ${text}\n`);
}
