/**
 * What a job takes to a host that cannot see the machine's files: Node with its libraries, the built package with what it
 * depends on, and what the user names. Each file lies there where it lies here, so that paths are the same.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { LabTrouble } from './trouble.ts';

/** What of the package its command needs. */
const OF_PACKAGE = ['package.json', 'dist/bundle', 'native/build/apiary.node', 'guest/build'];
/** Of those folders, what no program reads when it runs. */
const LEFT_OUT = /\/(types|esm|doc|docs|vendor|musl_x64)$|\.(o|map|md|d\.[cm]?ts|cc|hh)$/;

/** The files that Node and the package's command need. */
export function neededFiles(packageFolder: string): string[] {
  const ofPackage = OF_PACKAGE.map((path) => join(packageFolder, path));
  const missing = ofPackage.find((path) => !existsSync(path));
  if (missing !== undefined) throw new LabTrouble(`${missing} is not there: npm run build makes it`);
  const node = [process.execPath, ...libraries(process.execPath)];
  return filesIn([...node, ...ofPackage, ...dependencies(packageFolder)], LEFT_OUT);
}

/** The libraries that a program loads at its start, and its loader. */
function libraries(program: string): string[] {
  const { status, stdout } = spawnSync('ldd', [program], { encoding: 'utf8' });
  return status === 0 ? libraryPaths(stdout) : [];
}

/** The paths in what ldd(1) prints. */
export function libraryPaths(text: string): string[] {
  return [...text.matchAll(/(?:=> |^\s*)(\/\S+) \(0x/gm)].map(([, path]) => path ?? '');
}

/** The folders in node_modules of what a package depends on when it runs, also through others. */
export function dependencies(packageFolder: string): string[] {
  const modules = join(packageFolder, 'node_modules');
  const found = new Set<string>();
  const need = (folder: string): void => {
    const { dependencies, optionalDependencies } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    for (const name of Object.keys({ ...dependencies, ...optionalDependencies })) {
      const place = join(modules, name);
      if (found.has(place) || !existsSync(place)) continue; // optional ones are there for this machine only
      found.add(place);
      need(place);
    }
  };
  need(packageFolder);
  return [...found];
}

/**
 * The files that these absolute paths are or have in them, each once; of folders, but for what matches `leftOut`.
 * @throws LabTrouble where there is none
 */
export function filesIn(paths: readonly string[], leftOut = /^$/): string[] {
  const files = new Set<string>();
  const add = (path: string): void => {
    const stat = statSync(path, { throwIfNoEntry: false });
    if (stat === undefined) throw new LabTrouble(`${path}: no such file: the host cannot have it`);
    if (stat.isFile()) files.add(path);
    if (!stat.isDirectory()) return;
    for (const name of readdirSync(path).sort()) if (!leftOut.test(`${path}/${name}`)) add(`${path}/${name}`);
  };
  for (const path of paths) add(path);
  return [...files];
}
