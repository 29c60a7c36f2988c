/**
 * The end leaves nothing: no descriptor of KVM, no timer, no handler, and no thread but those that wait for the next machine,
 * however the run ended. Measured in this process, before and after; a worker thread of Node's own pool is started first, so
 * that it does not count.
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { Machine, type MachineOptions } from 'apiary';
import { beforeAll, expect, test } from 'vitest';
import { assemble, describeKvm, EXIT_OK, guestImage, leftovers, REAL_MODE, SLOW_HOST_MS, until } from './support.ts';

const SPIN = '1: jmp 1b\n';
const HALT = 'cli\n1: hlt\n jmp 1b\n';
const TRIPLE_FAULT = 'lidtl 1f\n mov %cr0, %eax\n inc %ax\n mov %eax, %cr0\n ud2\n1: .word 0\n .long 0\n';
const RESET = 'mov $6, %al\n mov $0xcf9, %dx\n out %al, %dx\n 1: jmp 1b\n';

type Ending = (machine: Machine) => Promise<unknown>;
const wait: Ending = (machine) => machine.run();
const stop: Ending = async (machine) => {
  void machine.run();
  await new Promise((resolve) => setTimeout(resolve, 20));
  await machine.stop();
};

const endings: readonly (readonly [string, string, MachineOptions, Ending])[] = [
  ['a debug exit', EXIT_OK, {}, wait],
  ['a debug exit on one thread', EXIT_OK, { threads: 1 }, wait],
  ['a debug exit under apic kernel', EXIT_OK, { apic: 'kernel', cpus: 4 }, wait],
  ['a triple fault', TRIPLE_FAULT, { cpus: 2 }, wait],
  ['a triple fault under apic kernel', TRIPLE_FAULT, { apic: 'kernel' }, wait],
  ['a reset', RESET, {}, wait],
  ['a timeout', SPIN, { timeoutMs: 20 }, wait],
  ['stop() of a spinning guest', SPIN, { cpus: 3, threads: 4 }, stop],
  ['stop() of a halted guest', HALT, { cpus: 3, keepHalted: true }, stop],
  ['stop() of a halted guest under apic kernel', HALT, { apic: 'kernel', cpus: 3 }, stop],
  [
    'stop() at once, while the guest starts',
    SPIN,
    { cpus: 8 },
    async (machine) => {
      void machine.run();
      await machine.stop();
    },
  ],
  ['stop() without run()', SPIN, { cpus: 2 }, (machine) => machine.stop()],
  [
    'stop() while CPUs are being added',
    SPIN,
    { apic: 'kernel' },
    async (machine) => {
      void machine.run();
      const added = [5, 6, 7].map((apicId) => machine.hotplug(apicId).catch(() => {}));
      await machine.stop();
      await Promise.all(added);
    },
  ],
  [
    'stop() twice at the same time',
    SPIN,
    {},
    async (machine) => {
      void machine.run();
      await Promise.all([machine.stop(), machine.stop()]);
    },
  ],
];

function handlers(): number[] {
  const names = ['SIGINT', 'SIGTERM', 'SIGHUP', 'exit', 'uncaughtException'] as const;
  return names.map((name) => process.listenerCount(name));
}

/** Message ports close a turn later. */
async function portsAreClosed(): Promise<void> {
  await until(() => !process.getActiveResourcesInfo().includes('MessagePort'));
}

describeKvm('after the end nothing is left', () => {
  let before: ReturnType<typeof leftovers>;
  let handlersBefore: number[];

  beforeAll(async () => {
    // As many threads as any test here has; they are kept for the next machine, for a while.
    const machine = await Machine.create({ apic: 'kernel', cpus: 4 });
    await machine.load(guestImage('hello'));
    await machine.run();
    before = leftovers();
    handlersBefore = handlers();
  });

  function nothingIsLeft(): void {
    const { threads, descriptors } = leftovers();
    expect(descriptors).toEqual(before.descriptors);
    expect(threads).toBeLessThanOrEqual(before.threads);
  }

  test.each(endings)('%s', async (_name, source, options, end) => {
    const machine = await Machine.create(options);
    await machine.load(assemble(source), REAL_MODE);
    await end(machine);
    nothingIsLeft();
    expect(handlers()).toEqual(handlersBefore);
    await portsAreClosed();
  });

  test.each([
    ['options that cannot work', { cpus: [1, 1] }],
    ['an unknown CPU feature', { cpu: 'host,-nonsense' }],
    ['an APIC ID that KVM refuses', { cpus: [0, 0x10_0000] }],
  ])('create() that fails: %s', async (_name, options) => {
    await expect(Machine.create(options)).rejects.toMatchObject({ name: 'ConfigError' });
    nothingIsLeft();
  });

  test('15 machines one after the other', async () => {
    const image = assemble(EXIT_OK);
    for (let round = 0; round < 15; round++) {
      const machine = await Machine.create({ threads: 1, memory: '2M' });
      await machine.load(image, REAL_MODE);
      await machine.run();
    }
    nothingIsLeft();
  });
});

/** Runs a script of its own process; it prints one line of JSON. */
function script(name: string, limits = ''): unknown {
  const file = fileURLToPath(new URL(name, import.meta.url));
  const shell = `${limits} exec "$0" "$@"`;
  const { stdout, stderr, status } = spawnSync('sh', ['-c', shell, process.execPath, file], {
    encoding: 'utf8',
    timeout: SLOW_HOST_MS,
  });
  if (status !== 0) throw new Error(`${name} ended with ${status}: ${stderr}`);
  return JSON.parse(stdout);
}

describeKvm('trouble from outside', () => {
  test('a worker thread that dies ends the run with status 70 and its name, and leaves nothing', () => {
    expect(script('machine-worker-death.mjs')).toMatchObject({
      runs: [
        { reason: 'monitor-error', status: 70, detail: expect.stringMatching(/^worker 1/) },
        { reason: 'monitor-error', status: 70, detail: expect.stringMatching(/^worker 0/) },
      ],
      left: { threads: 0, descriptors: 0 },
    });
  });

  test('create() without descriptors to spare fails with a reason, never hangs, and gives back what it took', () => {
    const report = script('machine-descriptors.mjs', 'ulimit -n 128;') as {
      failures: string[];
      left: number;
      ok: number;
    };
    expect(report.left).toBe(0);
    expect(report.ok).toBeGreaterThan(0);
    expect(report.failures.length).toBeGreaterThan(0);
    for (const failure of report.failures)
      expect(failure).toMatch(/^(KvmError|HostError|Error): .*(EMFILE|ERR_WORKER)/);
  });
});
