/** The parts of the lab that need no host: the archive's bytes, the order of modules, the job's script, what a machine lacks. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { cpio } from './cpio.ts';
import { passedOn, script } from './job.ts';
import { closure, dependencies } from './modules.ts';
import { readResults, stepScript } from './steps.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'apiary-lab-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

describe('an initramfs', () => {
  const archive = cpio([
    { name: 'bin', mode: 0o755 },
    { name: 'bin/tool', mode: 0o755, data: Buffer.from('12345') },
  ]);

  it('begins each member with the newc magic, its type and mode, and the sizes of data and name', () => {
    const header = (at: number): string => archive.toString('latin1', at, at + 110);
    expect(header(0)).toMatch(/^070701/);
    expect(header(0).slice(14, 22)).toBe('000041ed'); // a folder, 0755
    expect(header(0).slice(94, 102)).toBe('00000004'); // "bin" and its zero
    const second = 116; // 110 and 4, up to a multiple of 4
    expect(header(second).slice(0, 6)).toBe('070701');
    expect(header(second).slice(14, 22)).toBe('000081ed'); // a file, 0755
    expect(header(second).slice(54, 62)).toBe('00000005');
  });

  it('aligns names and data to 4 bytes and ends with the trailer', () => {
    expect(archive.length % 4).toBe(0);
    expect(archive.indexOf('12345') % 4).toBe(0);
    expect(archive.indexOf('TRAILER!!!\0')).toBeGreaterThan(archive.indexOf('12345'));
  });
});

describe('modules', () => {
  const module = (name: string, depends: string): void => {
    mkdirSync(join(folder, 'kernel'), { recursive: true });
    writeFileSync(join(folder, 'kernel', `${name}.ko`), `\x7fELF\0license=GPL\0depends=${depends}\0name=${name}\0`);
  };

  it('come after what they depend on, each once', () => {
    module('kvm-amd', 'kvm,ccp');
    module('kvm', 'irqbypass');
    module('irqbypass', '');
    module('ccp', '');
    module('other', '');
    const names = closure(folder, ['kvm-amd', 'kvm'], '/bin/false').map(({ name }) => name);
    expect(names).toEqual(['irqbypass', 'kvm', 'ccp', 'kvm_amd']);
  });

  it('that are built into the kernel are left out', () => {
    expect(closure(folder, ['virtio_pci'], '/bin/false')).toEqual([]);
  });

  it('are unpacked', () => {
    module('kvm', '');
    expect(spawnSync('gzip', [join(folder, 'kernel/kvm.ko')]).status).toBe(0);
    const [kvm] = closure(folder, ['kvm'], '/bin/false');
    expect(kvm?.data.toString('latin1')).toContain('name=kvm');
  });

  it('without a depends= depend on nothing', () => {
    expect(dependencies(Buffer.from('\x7fELF\0license=GPL\0'))).toEqual([]);
  });
});

describe('a job', () => {
  const sh = (command: readonly string[], environment = {}) => {
    const text = script({ command, directory: folder, environment, writable: ['/a'] });
    return spawnSync('/bin/sh', ['-c', text], { encoding: 'utf8', env: {} });
  };

  it('gets its words as they are', () => {
    expect(sh(['printf', '<%s>', "it's", 'a  b', '$HOME', '\n']).stdout).toBe("<it's><a  b><$HOME><\n>");
  });

  it('of one word with white space is a script, in the directory, with the environment, and gives its status', () => {
    const { stdout, status } = sh(['pwd; echo "$A"; exit 7'], { A: "1'2" });
    expect({ stdout, status }).toEqual({ stdout: `${folder}\n1'2\n`, status: 7 });
  });

  it('sees the variables that it needs, those asked for, and no others', () => {
    const environment = { PATH: '/bin', SECRET: '1', MINE: '2', APIARY_DEBUG: '1' };
    expect(passedOn(environment, ['MINE'])).toEqual({ PATH: '/bin', MINE: '2', APIARY_DEBUG: '1' });
  });
});

describe('steps', () => {
  const steps = [
    { name: 'fine', command: `echo "it's"; exit 6`, limitSeconds: 10, good: [0, 6] },
    { name: 'fails', command: 'echo no; exit 3', limitSeconds: 10 },
    { name: 'hangs', command: 'echo before; sleep 20', limitSeconds: 1 },
  ];
  const { stdout } = spawnSync('/bin/sh', ['-c', stepScript(steps)], { encoding: 'utf8' });

  it('all run, each within its limit, and are told apart', () => {
    const told = readResults(steps, stdout).map(({ good, status, output }) => ({ good, status, output }));
    expect(told).toEqual([
      { good: true, status: 6, output: "it's\n" },
      { good: false, status: 3, output: 'no\n' },
      { good: false, status: 124, output: 'before\n' },
    ]);
  });

  it('that a host did not get to are not good', () => {
    const cut = stdout.slice(0, stdout.indexOf('::lab begin hangs'));
    expect(readResults(steps, cut).at(-1)).toMatchObject({ good: false, status: undefined });
  });
});

describe('the command', () => {
  const lab = (parameters: readonly string[], path: string) =>
    spawnSync(process.execPath, ['--import', 'tsx', join(ROOT, 'test/lab/main.ts'), ...parameters], {
      cwd: ROOT,
      encoding: 'utf8',
      env: { PATH: path, APIARY_LAB: join(folder, 'store') },
    });

  it('says in one line that a machine without apt cannot fetch', () => {
    const { stderr, status } = lab(['--', 'true'], '/nowhere');
    expect(status).toBe(1);
    expect(stderr.trimEnd().split('\n').at(-1)).toMatch(/^lab: no apt-get on this machine: .*bring/);
  });

  it('says in one line what is wrong with a kernel', () => {
    const bin = join(folder, 'store/busybox/usr/bin/busybox');
    mkdirSync(dirname(bin), { recursive: true });
    symlinkSync('/bin/false', bin);
    writeFileSync(join(folder, 'store/busybox/packages.json'), '[]');
    writeFileSync(join(folder, 'vmlinuz'), '');
    const said = (...kernel: string[]): string => lab([...kernel, '--', 'true'], process.env.PATH ?? '').stderr.trim();
    expect(said('--kernel', '6.5')).toBe('lab: --kernel 6.5: neither a file nor one of 5.10, 6.1, 6.12, 7.2');
    expect(said('--kernel', join(folder, 'vmlinuz'))).toMatch(/^lab: .*say where its modules are: --modules FOLDER/);
  });
});
