/** The parts of the Intel lab host that need no host: what it takes along, what Bochs and GRUB are told, files without names. */
import { spawnSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { bochsrc, GRUB_MODULES, grubConfig, KERNEL_COMMAND_LINE } from './bochs.ts';
import { graftable } from './cd.ts';
import { isStatus, jobStatus, portOf, startEmulator } from './host.ts';
import { JobStatus } from './job.ts';
import { dependencies, filesIn, libraryPaths, neededFiles } from './job-files.ts';
import { NamelessFiles } from './nameless-files.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'apiary-lab-test-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

function file(path: string, text = ''): string {
  const place = join(folder, path);
  mkdirSync(dirname(place), { recursive: true });
  writeFileSync(place, text);
  return place;
}

describe('what a job takes along', () => {
  it('has the libraries and the loader that ldd names, and not the one that has no file', () => {
    const text = [
      '\tlinux-vdso.so.1 (0x00007ffd5a5f2000)',
      '\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f2916ef8000)',
      '\tlibnone.so.1 => not found',
      '\t/lib64/ld-linux-x86-64.so.2 (0x00007f2916ff0000)',
    ];
    expect(libraryPaths(`${text.join('\n')}\n`)).toEqual([
      '/lib/x86_64-linux-gnu/libm.so.6',
      '/lib64/ld-linux-x86-64.so.2',
    ]);
  });

  it('has what the package depends on, also through others, and of the optional what is there', () => {
    file('package.json', JSON.stringify({ dependencies: { a: '1' }, devDependencies: { test: '1' } }));
    file('node_modules/a/package.json', JSON.stringify({ optionalDependencies: { '@x/here': '1', '@x/other': '1' } }));
    file('node_modules/@x/here/package.json', JSON.stringify({ dependencies: { a: '1' } }));
    file('node_modules/test/package.json', '{}');
    expect(dependencies(folder)).toEqual(['a', '@x/here'].map((name) => join(folder, 'node_modules', name)));
  });

  it('says in one line that the package is not built', () => {
    file('package.json', '{}');
    expect(() => neededFiles(folder)).toThrow(/dist\/bundle is not there: npm run build makes it$/);
  });

  it('has every file of the folders that are named, once, also by links', () => {
    const files = [file('tree/bin/tool'), file('tree/doc/page.md')];
    symlinkSync(files[0] ?? '', join(folder, 'tree/link'));
    expect(filesIn([join(folder, 'tree'), ...files])).toEqual([...files, join(folder, 'tree/link')]);
  });

  it('has of the package what runs, Node, and its libraries, but not what only a compiler or a person reads', () => {
    const needed = neededFiles(ROOT).map((path) => path.replace(ROOT, ''));
    expect(needed).toEqual(
      expect.arrayContaining([process.execPath, 'dist/bundle/main.cjs', 'guest/build/hello.elf', 'package.json']),
    );
    expect(needed.some((path) => /libc\.so/.test(path))).toBe(true);
    expect(needed.some((path) => /node_modules\/koffi\/.*\.cjs$/.test(path))).toBe(true);
    expect(needed.filter((path) => /\.(o|md|d\.ts)$/.test(path))).toEqual([]);
  });

  it('says in one line which file is missing', () => {
    expect(() => filesIn([join(folder, 'none')])).toThrow(/none: no such file/);
  });

  it('is named to xorriso with what ends a name there escaped', () => {
    expect(graftable('/a=b\\c d')).toBe('/a\\=b\\\\c d');
  });
});

describe('Bochs is told', () => {
  const serial = ['/s/console', '/s/out', '/s/err', '/s/status'];
  const settings = bochsrc({ bios: '/b', vgaBios: '/v', cd: '/cd', log: '/log', serial });

  it('to emulate an Intel CPU with VMX, whose time is its instructions', () => {
    expect(settings).toMatch(/^cpu: model=corei7_skylake_x, count=1,/m);
    expect(settings).toMatch(/^clock: sync=none,/m);
  });

  it('of four serial ports, in their order, and to boot from the CD', () => {
    expect(settings.match(/^com.*$/gm)).toEqual(
      serial.map((path, at) => `com${at + 1}: enabled=1, mode=file, dev=${path}`),
    );
    expect(settings).toContain('ata0-master: type=cdrom, path=/cd, status=inserted\nboot: cdrom\n');
  });

  it('as many instructions a second as the kernel believes that the TSC counts', () => {
    const ips = Number(/ips=(\d+)/.exec(settings)?.[1]);
    expect(KERNEL_COMMAND_LINE).toContain(`tsc_early_khz=${ips / 1000}`);
    expect(Number.isInteger(ips / 1000)).toBe(true);
  });
});

describe('GRUB is told', () => {
  it('kernel, command line and initramfs, by commands that its image has', () => {
    const lines = grubConfig('console=ttyS0').trim().split('\n');
    expect(lines).toEqual(['set root=cd', 'linux /vmlinuz console=ttyS0', 'initrd /initrd', 'boot']);
    expect(GRUB_MODULES).toEqual(expect.arrayContaining(['biosdisk', 'iso9660', 'linux', 'boot']));
  });
});

describe('files without names', () => {
  it('are read and written by a program at their paths, and here', () => {
    const files = new NamelessFiles();
    const [first, second] = [files.withText('from here'), files.withText('')];
    const script = `read -r text <${first.path}; echo "$text, and back" >${second.path}`;
    spawnSync('/bin/sh', ['-c', script], { stdio: ['ignore', 'inherit', 'inherit', ...files.descriptors] });
    const text = Buffer.alloc(100);
    const length = readSync(second.descriptor, text, 0, text.length, 0);
    files.close();
    expect(text.toString('latin1', 0, length)).toBe('from here, and back\n');
  });

  it('leave nothing in the folder for temporary files, also when they cannot be made', () => {
    const script = `
      import { NamelessFiles } from ${JSON.stringify(join(ROOT, 'test/lab/nameless-files.ts'))};
      const files = new NamelessFiles();
      files.withText('text');
      try { files.make(() => { throw new Error('no'); }); } catch { console.log('made', files.descriptors.length); }`;
    expect(tsx(script).stdout).toBe('made 1\n');
    expect(readdirSync(folder)).toEqual([]);
  });
});

describe('a signal', () => {
  it('waits for work that would be left half made, and then ends the host', () => {
    const script = `
      import { spawnSync } from 'node:child_process';
      import { uninterrupted } from ${JSON.stringify(join(ROOT, 'test/lab/host.ts'))};
      const work = () => { spawnSync('kill', ['-TERM', String(process.pid)]); console.log('whole'); };
      await uninterrupted(work).catch(({ message }) => console.log(message));
      await uninterrupted(() => 1).then(console.log);`;
    expect(tsx(script)).toMatchObject({ stdout: 'whole\nstopped by SIGTERM\n1\n', status: 0 });
  });
});

describe('an emulator', () => {
  it('that is killed before it has read its port, as at the time limit, is told by its status alone', async () => {
    const child = startEmulator({ command: ['sleep', '60'], environment: {}, title: '' }, [], ['pipe']);
    const port = portOf(child, 3);
    port.resume();
    port.write('a job');
    await new Promise<void>((resolve) => port.once('drain', resolve).once('finish', resolve).end());
    const console = { last: () => '' };
    expect(await jobStatus(child, { timeoutSeconds: 0.1, said: () => '', console })).toBe(JobStatus.TimeIsOver);
    expect(child.signalCode).toBe('SIGKILL');
  });
});

/** A program of its own, whose temporary files are in `folder`. */
function tsx(text: string) {
  const parameters = ['--import', 'tsx', '--input-type=module', '--eval', text];
  const env = { PATH: process.env.PATH, TMPDIR: folder, TSX_DISABLE_CACHE: '1' };
  return spawnSync(process.execPath, parameters, { cwd: ROOT, encoding: 'utf8', env });
}

describe('the command', () => {
  it('says in one line that such a host cannot write here', () => {
    const parameters = ['--import', 'tsx', 'test/lab/main.ts', '--host', 'vmx', '--writable', folder, '--', 'true'];
    const { stderr, status } = spawnSync(process.execPath, parameters, { cwd: ROOT, encoding: 'utf8' });
    expect({ stderr, status }).toEqual({ stderr: expect.stringMatching(/^lab: --writable: .*\n$/), status: 1 });
  });
});

describe('PID 1', () => {
  it('is a script that a shell can read', () => {
    const text = readFileSync(join(ROOT, 'test/lab/init.sh'), 'utf8');
    expect(spawnSync('/bin/sh', ['-n'], { input: text }).status).toBe(0);
  });

  it('has said the status when its line is whole', () => {
    expect(['', '1', '12', '0\n', '12\n'].map(isStatus)).toEqual([false, false, false, true, true]);
  });
});
