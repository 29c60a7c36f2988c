/** The `apiary` command as its users meet it: exit statuses, one-line errors, help, traces, input and output. */
import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { vendorModule } from 'apiary/kvm';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { assemble, COMMAND, command, describeKvm, EXIT_OK, GUEST_OK, guestImage } from './support.ts';

const hello = guestImage('hello');
const isRoot = process.getuid?.() === 0;
const AS_NOBODY = ['--reuid', '65534', '--regid', '65534', '--clear-groups'];
/** A user without rights who can read this checkout. */
const canBeNobody = isRoot && spawnSync('setpriv', [...AS_NOBODY, 'test', '-r', hello]).status === 0;
let directory = '';
const file = (name: string): string => join(directory, name);
const run = (line: string) => command(['run', ...line.replace('HELLO', hello).replace('DIR', directory).split(' ')]);

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'apiary-cli-'));
  const image = readFileSync(hello);
  writeFileSync(file('empty'), '');
  writeFileSync(file('truncated'), image.subarray(0, 700));
  writeFileSync(file('noise'), Buffer.alloc(5000, 0x5a));
  writeFileSync(file('unreadable'), image);
  chmodSync(file('unreadable'), 0);
  // The same image with its first segment at 3 GiB.
  const huge = Buffer.from(image);
  huge.writeBigUInt64LE(0xc000_0000n, Number(huge.readBigUInt64LE(32)) + 24);
  writeFileSync(file('huge'), huge);
});

afterAll(() => rmSync(directory, { recursive: true }));

/** Exactly one line that starts with our name and matches; status 2; nothing else. */
async function expectMistake(line: string, message: RegExp): Promise<void> {
  const { status, stdout, stderr } = await run(line);
  expect(stderr.trimEnd().split('\n')).toEqual([expect.stringMatching(message)]);
  expect(stderr).toMatch(/^apiary: /);
  expect(stdout).toBe('');
  expect(status).toBe(2);
}

describe('mistakes on the command line, with or without KVM', () => {
  test.each([
    ['HELLO --cpus 0', /--cpus.*0 CPUs are out of range: give 1 or more/],
    ['HELLO --apic mine', /--apic.*'mine' is invalid. Allowed choices are user, kernel/],
    ['HELLO --nonsense', /unknown option '--nonsense'.*apiary --help/],
    ['HELLO second.elf', /too many arguments/],
    ['--cpus 4', /missing required argument 'image'/],
    ['HELLO --hotplug 0', /--hotplug 0x0: that CPU is there; --unplug it first/],
    ['HELLO --unplug 5', /--unplug 0x5: that CPU is not there; --hotplug it first/],
    ['HELLO --unplug 0', /--unplug 0x0: the boot CPU cannot be unplugged/],
  ])('run %s', expectMistake);

  test('an unknown command is one line, too', async () => {
    const { status, stderr } = await command(['runn']);
    expect(stderr).toMatch(/^apiary: unknown command 'runn'.*\n$/);
    expect(status).toBe(2);
  });

  test.each(['run', 'demo', 'doctor'])('%s --help shows an example', async (name) => {
    const { status, stdout, stderr } = await command([name, '--help']);
    expect(stdout).toMatch(new RegExp(`Examples?:\n  apiary ${name}`));
    expect([status, stderr]).toEqual([0, '']);
  });

  test('--help lists the commands', async () => {
    const { status, stdout } = await command(['--help']);
    for (const name of ['run', 'demo', 'doctor']) expect(stdout).toMatch(new RegExp(`^  ${name}\\b`, 'm'));
    expect(status).toBe(0);
  });
});

describeKvm('mistakes that show once KVM is asked', () => {
  test.each([
    ['/no/such/image', /cannot read image \/no\/such\/image: no such file/],
    ['DIR', /cannot read image .*: it is a directory/],
    ['DIR/empty', /empty: the file is empty/],
    ['DIR/truncated', /truncated: truncated: .* ends at 0x.*, the file at 0x2bc/],
    ['DIR/noise', /noise: neither ELF, multiboot nor Linux: .*give a load address/],
    ['DIR/huge', /huge: .*0xc0000000/],
    ['HELLO --cpus 0,0', /APIC ID 0x0 is given twice; each vCPU needs its own/],
    ['HELLO --cpus 0,0x99999', /APIC ID 0x99999 is too large: this host's KVM takes IDs up to 0x/],
    ['HELLO --hotplug 0x99999', /APIC ID 0x99999 is too large/],
    ['HELLO --threads 0', /threads 0 is out of range: give 1 to 256/],
    ['HELLO --memory 1', /memory 1M is out of range: give 2M to 3G/],
    ['HELLO --memory 99999G', /memory \d+M is out of range: give 2M to 3G/],
    ['HELLO --cpu host,-nonsense', /cpu feature '-nonsense' is not known; write \+name or -name/],
    ['HELLO --cpu qemu64', /cpu 'qemu64' is not known; the base is 'host'/],
    ['HELLO --trace /no/such/directory/x', /cannot write trace \/no\/such\/directory\/x: ENOENT/],
    ['HELLO --trace DIR', /cannot write trace .*: EISDIR/],
    ['HELLO --initrd /no/such/file', /cannot read initrd \/no\/such\/file: no such file/],
  ])('run %s', expectMistake);

  test.skipIf(isRoot)('run of an image that may not be read', () =>
    expectMistake('DIR/unreadable', /unreadable: no permission to read it/),
  );

  test('a trace that does not fit on the disk ends the run with one line', async () => {
    const { status, stderr } = await run('HELLO --trace /dev/full');
    expect(stderr).toBe('apiary: cannot write trace /dev/full: ENOSPC; give a file that can be written\n');
    expect(status).toBe(2);
  });

  test('options that are wrong leave no trace file behind', async () => {
    await run('HELLO --cpus 0,0 --trace DIR/none.json');
    expect(existsSync(file('none.json'))).toBe(false);
  });
});

describe('output that nobody takes, with or without KVM', () => {
  test('a full disk is one line', () => {
    const stdio = ['ignore', openSync('/dev/full', 'w'), 'pipe'] as const;
    const { status, stderr } = spawnSync(process.execPath, [COMMAND, 'doctor'], {
      stdio: [...stdio],
      encoding: 'utf8',
    });
    expect([status, stderr]).toEqual([4, 'apiary: cannot write to standard output: ENOSPC\n']);
  });

  test('a reader that has gone ends it, and nothing is said', () => {
    const script = '{ "$0" "$1" doctor; echo "status $?" >&2; } | true';
    const { stderr } = spawnSync('sh', ['-c', script, process.execPath, COMMAND], { encoding: 'utf8' });
    expect(stderr).toBe('status 12\n');
  });
});

describeKvm('apiary run', () => {
  test("the guest's output is ours, and its status", async () => {
    expect(await command(['run', hello])).toEqual({
      status: GUEST_OK,
      signal: null,
      stdout: 'hello from apiary\n',
      stderr: '',
    });
  });

  test('a timeout is status 124, one line, and what the CPU was doing', async () => {
    writeFileSync(file('spin'), assemble('1: jmp 1b'));
    const { status, stderr } = await run('DIR/spin --load-address 0x1000 --timeout 3s');
    expect(status).toBe(124);
    expect(stderr).toMatch(/^apiary: the guest ran longer than --timeout allows\n {2}CPU 0x0: /);
  });

  test('a triple fault is status 10 and says where', async () => {
    writeFileSync(file('fault'), assemble('lidtl 1f\n mov %cr0, %eax\n inc %ax\n mov %eax, %cr0\n ud2\n1: .quad 0'));
    const { status, stderr } = await run('DIR/fault --load-address 0x1000');
    expect(stderr).toMatch(/^apiary: vCPU with APIC ID 0x0: triple fault at rip 0x/);
    expect(status).toBe(10);
  });

  test('hotplug, removal and return by options, in their order', async () => {
    const { status, stdout } = await command([
      ...['run', guestImage('hotplug'), '--cpus', '0,0x23', '--x2apic-api', 'use-32bit-ids'],
      ...['--hotplug', '0x123', '--unplug', '0x123', '--hotplug', '0x123'],
    ]);
    expect(stdout).toContain('hotplug: cpu id=0x123 xapic-id=0x23 started=1');
    expect(stdout).toContain('ipi phase=return dest=physical:0x00000123 took=0x123');
    expect(status).toBe(GUEST_OK);
  });

  test('a guest that ends before --hotplug and --unplug are carried out ends as it would without', async () => {
    for (let round = 0; round < 3; round++) {
      const { status, stderr } = await run('HELLO --hotplug 5 --hotplug 6 --unplug 5 --hotplug 7');
      expect([status, stderr]).toEqual([GUEST_OK, '']);
    }
  });

  test('what is piped in reaches the guest, and a closed input is no trouble', () => {
    writeFileSync(
      file('echo'),
      assemble(`
        1: mov $0x3fd, %dx
          in %dx, %al
          test $1, %al
          jz 1b
          mov $0x3f8, %dx
          in %dx, %al
          out %al, %dx
          cmp $'q', %al
          jne 1b
          ${EXIT_OK}`),
    );
    const parameters = [COMMAND, 'run', file('echo'), '--load-address', '0x1000', '--timeout', '20s'];
    const long = 'abc\n'.repeat(3000);
    const { stdout, status } = spawnSync(process.execPath, parameters, { input: `${long}q`, encoding: 'utf8' });
    expect([stdout, status]).toEqual([`${long}q`, GUEST_OK]);
    const quoted = [process.execPath, COMMAND, 'run', hello].map((word) => `'${word}'`).join(' ');
    const closed = spawnSync('sh', ['-c', `${quoted} <&-`], { encoding: 'utf8' });
    expect([closed.stdout, closed.stderr, closed.status]).toEqual(['hello from apiary\n', '', GUEST_OK]);
  });

  test('a reader that goes away ends the run quietly, as SIGPIPE would', async () => {
    writeFileSync(file('flood'), assemble("mov $0x3f8, %dx\n mov $'\\n', %al\n 1: out %al, %dx\n jmp 1b"));
    const child = spawn(
      process.execPath,
      [COMMAND, 'run', file('flood'), '--load-address', '0x1000', '--timeout', '20s'],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    let stderr = '';
    child.stderr.on('data', (chunk) => {
      stderr += chunk;
    });
    child.stdout.once('data', () => child.stdout.destroy());
    const status = await new Promise((resolve) => child.once('close', resolve));
    expect([status, stderr]).toEqual([12, '']);
  });

  test('output that cannot be written is one line', () => {
    const full = openSync('/dev/full', 'w');
    const { status, stderr } = spawnSync(process.execPath, [COMMAND, 'run', hello], {
      stdio: ['ignore', full, 'pipe'],
      encoding: 'utf8',
    });
    expect([status, stderr]).toEqual([4, 'apiary: cannot write to standard output: ENOSPC\n']);
  });
});

interface TraceItem {
  readonly ph: string;
  readonly name: string;
  readonly pid: number;
  readonly tid?: number;
  readonly ts?: number;
  readonly id?: number;
  readonly args?: Readonly<Record<string, string | number>>;
}

describeKvm('--trace', () => {
  test('writes what ui.perfetto.dev opens: a track for each CPU, who sent what, by which path, who took it and why', async () => {
    const trace = file('hotplug.json');
    const { status } = await command([
      ...['run', guestImage('hotplug'), '--cpus', '0,0x23', '--hotplug', '0x123', '--trace', trace],
    ]);
    expect(status).toBe(GUEST_OK);
    const items = JSON.parse(readFileSync(trace, 'utf8')) as TraceItem[];
    for (const item of items) {
      expect(item).toMatchObject({ name: expect.any(String), ph: expect.stringMatching(/^[XMsfC]$/), pid: 1 });
      if (item.ph !== 'M') expect(item.ts).toBeGreaterThanOrEqual(0);
    }
    const tracks = items.filter(({ name }) => name === 'thread_name').map(({ tid, args }) => [tid, args?.name]);
    expect(new Map(tracks as [number, string][])).toEqual(
      new Map([
        [1_000_000, 'devices and MSIs'],
        [0, 'vCPU 0 (APIC ID 0x0)'],
        [1, 'vCPU 1 (APIC ID 0x23)'],
        [2, 'vCPU 2 (APIC ID 0x123)'],
      ]),
    );
    const alias = items.find(({ name, tid, args }) => name === '0x61 to 0x23' && tid === 0 && args !== undefined);
    expect(alias?.args).toMatchObject({
      destinationMode: 'physical',
      path: 'scan',
      result: 2,
      targets: expect.stringMatching(/^vCPU 1 \(APIC ID 0x23\): .+; vCPU 2 \(APIC ID 0x123\): .+$/),
    });
    const starts = items.filter(({ ph }) => ph === 's').map(({ id }) => id);
    const ends = items.filter(({ ph }) => ph === 'f').map(({ id }) => id);
    expect(ends).toEqual(starts);
    expect(new Set(starts).size).toBe(starts.length);
  });

  test('a trace of a run that is ended from outside is complete JSON', async () => {
    const trace = file('cut.json');
    await command(['run', guestImage('storm'), '--cpus', '4', '--timeout', '600ms', '--trace', trace]);
    expect((JSON.parse(readFileSync(trace, 'utf8')) as TraceItem[]).length).toBeGreaterThan(10);
  });
});

/** A table's rows, each cell on one line. */
function tableRows(text: string): string[][] {
  const rows: string[][] = [];
  for (const line of text.split('\n')) {
    if (!line.startsWith('│')) continue;
    const cells = line
      .split('│')
      .slice(1, -1)
      .map((cell) => cell.trim());
    const last = rows.at(-1);
    if (cells[0] === '' && last !== undefined)
      for (const [i, cell] of cells.entries()) last[i] = `${last[i]} ${cell}`.trim();
    else rows.push(cells);
  }
  return rows;
}

/** Two guests for each of four rules, which take a minute where the host is emulated. */
const DEMO_MILLIS = 240_000;

describeKvm('apiary demo and doctor', () => {
  test('demo prints one row for each gate and rule, agrees with the kernel, and exits with 0', {
    timeout: DEMO_MILLIS,
  }, async () => {
    const { status, stdout } = await command(['demo']);
    const rows = tableRows(stdout)
      .filter(([gate]) => gate === 'on' || gate === 'off')
      .map((row) => row.join(' | '));
    expect(rows).toEqual([
      'off | kvm | 0x23,0x123 (scan) | 0x123 (scan) | 0x0 (scan) | 0x123',
      'off | kvm-legacy | 0x23 (map) | 0x123 (map) | 0x0 (scan) | 0x123',
      'off | hardware | 0x23,0x123 (scan) | 0x23,0x123 (scan) | 0x0,0x23,0x123 (scan) | 0x123,0x23',
      'off | kernel | 0x23,0x123 | 0x123 | 0x0 | 0x123',
      'on | kvm | 0x23 (map) | 0x123 (map) | 0x0 (scan) | 0x123',
      'on | kvm-legacy | 0x23 (map) | 0x123 (map) | 0x0 (scan) | 0x123',
      'on | hardware | 0x23,0x123 (scan) | 0x23,0x123 (scan) | 0x0,0x23,0x123 (scan) | 0x123,0x23',
      'on | kernel | 0x23 | 0x123 | 0x0 | 0x123',
    ]);
    expect(stdout).toMatch(/Gate off: kvm and the kernel agree on all \d+ lines/);
    expect(stdout).toMatch(/Gate on: kvm and the kernel agree on all \d+ lines/);
    expect(status).toBe(0);
  });

  test('doctor finds that this machine can run guests', async () => {
    const { status, stdout } = await command(['doctor']);
    expect(stdout).toMatch(/^This machine can run guests\.$/m);
    expect(stdout).toMatch(/this kernel\s+routes as Linux/);
    expect(status).toBe(0);
  });

  test('doctor finds no gaps in ring 0 where it is not interpreted, and known ones where it is', async () => {
    const { status, stdout } = await command(['doctor', '--json']);
    const { ok, gaps } = JSON.parse(stdout) as { ok: boolean; gaps: { what: string; outcome: string }[] };
    if (vendorModule() !== 'kvm_pvm') expect(gaps).toEqual([]);
    for (const { outcome } of gaps) expect(outcome).toMatch(/^KVM_EXIT_(INTERNAL_ERROR|SHUTDOWN)$/);
    expect([ok, status]).toEqual([true, 0]);
  });

  test.skipIf(!canBeNobody)('doctor and run, as a user who may not open /dev/kvm, say what to do', () => {
    const as = (parameters: string[]) =>
      spawnSync('setpriv', [...AS_NOBODY, process.execPath, COMMAND, ...parameters], { encoding: 'utf8', cwd: '/' });
    const doctor = as(['doctor']);
    expect(doctor.stdout).toMatch(/FAIL \/dev\/kvm: not for you \(EACCES\)/);
    // Which of the two depends on the device's mode.
    expect(doctor.stdout).toMatch(/usermod -aG kvm|chgrp kvm \/dev\/kvm/);
    expect(doctor.status).toBe(4);
    const runs = as(['run', hello]);
    expect(runs.stderr).toMatch(/^apiary: open \/dev\/kvm: EACCES \(.*(usermod -aG kvm|chgrp kvm \/dev\/kvm).*\)\n$/);
    expect(runs.status).toBe(4);
  });
});
