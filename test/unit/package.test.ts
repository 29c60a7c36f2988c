/**
 * What a package's user relies on and no other test sees: an addon for every Linux, no native code where there is none. Uses what `npm run build` made; `npm run pack:check` tries the tarball itself.
 */
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const ADDON = `${ROOT}/native/build/apiary.node`;

function run(command: string, ...args: readonly string[]) {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd: ROOT, encoding: 'utf8', timeout: 20_000 });
  return { status, stdout, stderr };
}

const hasBinutils = run('readelf', '--version').status === 0;

describe.skipIf(!hasBinutils)('the addon', () => {
  it('names no library and no version of a symbol: it takes what the process has, glibc or musl', () => {
    const { stdout } = run('readelf', '--dynamic', '--version-info', '--wide', ADDON);
    expect(stdout).toMatch(/SONAME|SYMTAB/);
    expect(stdout).not.toMatch(/NEEDED|VERNEED|GLIBC/);
  });

  it('has no thread-local storage, which musl loads late and glibc may allocate in a signal handler', () => {
    expect(run('readelf', '--program-headers', ADDON).stdout).not.toMatch(/\bTLS\b/);
  });

  it('calls Node-API and what POSIX or both C libraries have', () => {
    const { stdout } = run('nm', '--dynamic', '--undefined-only', '--format=just-symbols', ADDON);
    const names = stdout.split('\n').filter((name) => name !== '' && !name.startsWith('napi_'));
    expect(names).toContain('ioctl');
    const both = ['__errno_location', 'madvise', '__libc_current_sigrtmin', 'syscall', '__stack_chk_fail'];
    const posix =
      `calloc clock_gettime close free getpid ioctl malloc memset mmap munmap pthread_getspecific pthread_key_create
      pthread_mutex_lock pthread_mutex_unlock pthread_once pthread_setspecific pthread_sigmask realloc sched_yield sigaction
      sigaddset sigemptyset`.split(/\s+/);
    expect(names.filter((name) => !both.includes(name) && !posix.includes(name))).toEqual([]);
  });
});

describe.each(['darwin', 'win32'])('on %s (simulated)', (platform) => {
  const elsewhere = `Object.defineProperty(process, 'platform', { value: '${platform}' });`;
  const preload = `data:text/javascript,${encodeURIComponent(elsewhere)}`;
  const node = (...args: readonly string[]) => run(process.execPath, '--import', preload, ...args);

  it.each([
    ['import', '--input-type=module', "import { ApicSystem } from 'apiary/apic';"],
    ['require', '--input-type=commonjs', "const { ApicSystem } = require('apiary/apic');"],
  ])('apiary/apic works by %s', (_, type, load) => {
    const use = "console.log(new ApicSystem({ x2apicFormat: false, behaviour: 'kvm' }).addApic(0x123) !== undefined)";
    expect(node(type, '-e', `${load} ${use}`)).toEqual({ status: 0, stdout: 'true\n', stderr: '' });
  });

  it('apiary says what it needs', () => {
    const { stderr } = node('--input-type=module', '-e', "await import('apiary')");
    expect(stderr).toMatch(new RegExp(`AddonError: guests run on Linux on x86-64, and this is ${platform} on `));
  });

  it('the command has its help, and one line for what needs KVM', () => {
    expect(node('dist/bundle/main.cjs', '--help')).toMatchObject({ status: 0, stderr: '' });
    const { stderr } = node('dist/bundle/main.cjs', 'run', 'guest/build/hello.elf');
    expect(stderr).toMatch(/^apiary: guests run on Linux on x86-64, and this is [^\n]+\n$/);
  });
});

it('the guests that come with it are found, and a misspelt one is named', () => {
  const code = "import { guestImage } from 'apiary'; console.log(guestImage('hello')); guestImage('helo')";
  const { stdout, stderr } = run(process.execPath, '--input-type=module', '-e', code);
  expect(stdout).toBe(`${ROOT}guest/build/hello.elf\n`);
  expect(stderr).toMatch(/ConfigError: there is no guest 'helo': did you mean hello\?/);
});

// Tests run the command from its modules; these the bundles, each with all that it finds beside itself.
describe('the command as the package has it', () => {
  let root = ''; // a package of its own, since a run keeps its code there
  beforeAll(() => {
    root = mkdtempSync(join(tmpdir(), 'apiary-package-'));
    cpSync(join(ROOT, 'package.json'), join(root, 'package.json'));
    cpSync(join(ROOT, 'dist/bundle'), join(root, 'dist/bundle'), {
      recursive: true,
      filter: (path) => !path.endsWith('/bundle/cache'),
    });
    const others = readdirSync(join(ROOT, 'dist')).filter((name) => name !== 'bundle');
    for (const name of ['node_modules', 'native', 'guest', ...others.map((each) => `dist/${each}`)]) {
      symlinkSync(join(ROOT, name), join(root, name));
    }
    mkdirSync(join(root, 'home'));
  });
  afterAll(() => rmSync(root, { recursive: true }));

  const command = (...args: string[]) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [join(root, 'dist/bundle/main.cjs'), ...args], {
      cwd: root,
      encoding: 'utf8',
      env: { ...process.env, HOME: join(root, 'home'), XDG_CACHE_HOME: '' },
      timeout: 20_000,
    });
    return { status, stdout, stderr };
  };
  const script = `${pathToFileURL(`${ROOT}test/unit/machine/scripts/guests.mjs`).href}?hello`;

  it.each([
    ['on the thread that started with it', []],
    ['on more threads', ['--cpus', '4', '--threads', '3']],
    ['with a trace', ['--trace', '/dev/null']],
  ])('runs a machine %s', (_, args) => {
    const ended = command('run', '--script', script, 'guest/build/hello.elf', ...args);
    expect(ended).toMatchObject({ status: 1, stdout: expect.stringContaining('hello from a script\n') });
  });

  it('takes `--` before the command', () => {
    const ended = command('--', 'run', '--script', script, 'guest/build/hello.elf');
    expect(ended).toMatchObject({ status: 1, stdout: 'hello from a script\n' });
  });

  it('has --watch', () => {
    const { stderr } = command('run', '--script', script, 'guest/build/hello.elf', '--watch');
    expect(stderr).toMatch(/^apiary: .*terminal/);
  });

  it('explores', () => {
    const ended = command('explore', 'map-twins', '--preemptions', '0');
    expect(ended).toMatchObject({ status: 0, stderr: '' });
  });

  describe('keeps its code', () => {
    const cache = (): string => join(root, 'dist/bundle/cache');
    const kept = (): string[] =>
      existsSync(cache()) ? readdirSync(cache()).map((name) => name.split('-')[0] ?? '') : [];
    const run = (...args: string[]) => command('run', '--script', script, ...args);
    beforeEach(() => rmSync(cache(), { recursive: true, force: true }));

    it('once a machine has run, of the command and of a thread', () => {
      expect(run('guest/build/hello.elf', '--cpus', '4', '--threads', '3').status).toBe(1);
      expect(kept()).toEqual(['machine.code.cjs', 'worker.code.cjs']);
      expect(run('guest/build/hello.elf')).toEqual({ status: 1, stdout: 'hello from a script\n', stderr: '' });
      expect(readdirSync(join(root, 'home'))).toEqual([]);
    });

    it.each([
      ['an option that there is not', ['guest/build/hello.elf', '--no-such-option']],
      ['an image that there is not', ['guest/build/none.elf']],
      ['an image that is none', ['package.json']],
    ])('not after a mistake: %s', (_, args) => {
      expect(run(...args).status).toBe(2);
      expect(kept()).toEqual([]);
    });
  });

  it('says in a line that a thread’s program cannot be loaded', () => {
    const program = join(root, 'dist/bundle/worker.cjs');
    const whole = join(root, 'worker.cjs');
    cpSync(program, whole);
    try {
      writeFileSync(program, "throw new Error('damaged')");
      const { status, stderr } = command('run', '--script', script, 'guest/build/hello.elf');
      expect(stderr).toMatch(/^apiary: worker 0: damaged\n/);
      expect(status).toBe(4);
    } finally {
      cpSync(whole, program);
    }
  });
});

/** In import and export declarations and calls of import(), of the package's name or a path below it. */
const IMPORTED = /^(?:import|export|\}) .*from '([^.'$][^']*)'|^import '([^.'$][^']*)'|\bimport\('([^.'$][^']*)'\)/gm;

it('every package that sources and tests import is declared: what is only somebody else’s may go or change with it', () => {
  const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as Record<
    string,
    Record<string, string>
  >;
  const declared = new Set(['apiary', ...Object.keys({ ...manifest.dependencies, ...manifest.devDependencies })]);
  const undeclared: string[] = [];
  let found = 0;
  for (const folder of ['src', 'test', 'native']) {
    for (const file of readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })) {
      if (!/\.(ts|mjs)$/.test(file)) continue;
      for (const [, ...names] of readFileSync(join(ROOT, folder, file), 'utf8').matchAll(IMPORTED)) {
        const name = /^(@[^/]+\/)?[^/]+/.exec(names.find((each) => each !== undefined) ?? '')?.[0] ?? '';
        found++;
        if (!name.startsWith('node:') && !declared.has(name)) undeclared.push(`${folder}/${file}: ${name}`);
      }
    }
  }
  expect(found).toBeGreaterThan(500);
  expect(undeclared).toEqual([]);
});
