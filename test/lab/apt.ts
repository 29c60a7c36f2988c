/**
 * Debian packages for a user who may install nothing: apt with lists, cache and "installed" state of its own in a folder,
 * one such folder for each suite, so that a suite's versions are not mixed with another's or with the machine's. apt checks
 * the archive's signatures as it always does. The archive is the one that the machine's own apt is set up with.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { LabTrouble } from './trouble.ts';

/** How often a download is tried: mirrors and proxies fail now and then. */
const ATTEMPTS = 3;
const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';

export interface Package {
  readonly name: string;
  readonly version: string;
  readonly file: string;
  readonly sha256: string;
}

export class Suite {
  readonly name: string;
  readonly #folder: string;

  private constructor(name: string, folder: string) {
    this.name = name;
    this.#folder = folder;
  }

  /** Fetches the suite's list into `folder`. Throws `LabTrouble` where there is no apt or no Debian archive. */
  static open(name: string, folder: string): Suite {
    const suite = new Suite(name, folder);
    for (const each of ['lists/partial', 'archives/partial', 'none'])
      mkdirSync(join(folder, each), { recursive: true });
    writeFileSync(join(folder, 'status'), '');
    writeFileSync(join(folder, 'sources.list'), `deb [signed-by=${KEYRING}] ${debianArchive()} ${name} main\n`);
    suite.#aptGet(['update', '-qq'], `the package list of Debian ${name}`);
    return suite;
  }

  /** A package's field, such as Version or Depends, in its newest version; undefined where the suite has no such package. */
  field(packageName: string, field: string): string | undefined {
    const { status, stdout } = this.#run('apt-cache', ['show', '--no-all-versions', packageName]);
    return status === 0 ? new RegExp(`^${field}: (.*)$`, 'm').exec(stdout)?.[1] : undefined;
  }

  /** The packages that a machine with nothing on it needs for these, themselves included. */
  withDependencies(packages: readonly string[]): string[] {
    const parameters = ['install', '--print-uris', '--yes', '--no-install-recommends', ...packages];
    const lines = this.#aptGet(parameters, packages.join(' ')).matchAll(/^'\S+' ([^\s_]+)_\S+ \d+/gm);
    return [...lines].map(([, name]) => name ?? '');
  }

  /** Downloads into `into`, an existing folder, and says what came. */
  download(packages: readonly string[], into: string): Package[] {
    this.#aptGet(['download', '-qq', ...packages], packages.join(' '), into);
    return readdirSync(into)
      .filter((name) => name.endsWith('.deb'))
      .map((name) => describe(join(into, name)));
  }

  #aptGet(parameters: readonly string[], what: string, cwd?: string): string {
    let said = '';
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const { status, stdout, stderr } = this.#run('apt-get', parameters, cwd);
      if (status === 0) return stdout;
      said = stderr.trim().split('\n').at(-1) ?? '';
    }
    throw new LabTrouble(`apt-get cannot bring ${what} from Debian ${this.name}: ${said || 'it did not say why'}`);
  }

  #run(tool: string, parameters: readonly string[], cwd?: string): Output {
    const path = (name: string): string => join(this.#folder, name);
    const settings = [
      `Dir::State=${this.#folder}`,
      `Dir::State::lists=${path('lists')}`,
      `Dir::State::status=${path('status')}`,
      `Dir::Cache=${this.#folder}`,
      `Dir::Etc::sourcelist=${path('sources.list')}`,
      `Dir::Etc::sourceparts=${path('none')}`,
      `Dir::Etc::preferences=${path('none/preferences')}`,
      `Dir::Etc::preferencesparts=${path('none')}`,
      'APT::Sandbox::User=', // root's downloads go through _apt otherwise, who may not enter this folder
      'APT::Architecture=amd64',
      'Debug::NoLocking=true',
      'Acquire::Retries=3',
    ];
    return run(tool, [...settings.flatMap((each) => ['-o', each]), ...parameters], cwd);
  }
}

interface Output {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function run(tool: string, parameters: readonly string[], cwd?: string): Output {
  const { error, ...output } = spawnSync(tool, parameters, {
    cwd,
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    env: { ...process.env, LC_ALL: 'C', DEBIAN_FRONTEND: 'noninteractive' },
  });
  if (error)
    throw new LabTrouble(
      `no ${tool} on this machine: the lab fetches emulators and kernels with it; bring a .lab/ folder made on a Debian machine`,
    );
  return output;
}

/** Where this machine's apt takes Debian from; a machine with another system's archive has none. */
function debianArchive(): string {
  const { stdout } = run('apt-get', ['indextargets', '--format', '$(REPO_URI)', 'Created-By: Packages']);
  const archive = stdout.split('\n').find((uri) => /\/debian\/?$/.test(uri));
  if (archive) return archive;
  throw new LabTrouble(
    'no Debian archive in this machine\'s apt sources: the lab takes emulators and kernels from there; add a line "deb URI bookworm main"',
  );
}

function describe(file: string): Package {
  const fields = run('dpkg-deb', ['--field', file, 'Package', 'Version']).stdout;
  const value = (field: string): string => new RegExp(`^${field}: (.*)$`, 'm').exec(fields)?.[1] ?? '';
  const sha256 = createHash('sha256').update(readFileSync(file)).digest('hex');
  return { name: value('Package'), version: value('Version'), file, sha256 };
}

/** Unpacks a package's files into `into`; its scripts are not run. */
export function unpack(file: string, into: string): void {
  const { status, stderr } = run('dpkg-deb', ['--extract', file, into]);
  if (status !== 0) throw new LabTrouble(`${file}: not a Debian package: ${stderr.trim()}`);
}
