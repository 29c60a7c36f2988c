/** A machine as a program holds it: given up at the end of a block, ended by a signal, listened to, forgotten. Guests are scripts. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { ConfigError, Machine, type MachineOptions } from 'apiary';
import { describe, expect, test } from 'vitest';

const SCRIPTS = new URL('./scripts/guests.mjs', import.meta.url).href;
const ROOT = fileURLToPath(new URL('../../..', import.meta.url));

async function load(guest: string, options: MachineOptions = {}): Promise<Machine> {
  const machine = await Machine.create({ script: `${SCRIPTS}?${guest}`, ...options });
  await machine.load(Uint8Array.of(0xf4), { loadAddress: 0x1000 });
  return machine;
}

describe('a machine', () => {
  test('is stopped at the end of a block', async () => {
    let run: Promise<unknown>;
    let kept: Machine;
    {
      await using machine = await load('sleep');
      run = machine.run();
      kept = machine;
      await machine.waitFor('R');
    }
    expect(kept.ended).toBe(true);
    expect(await run).toEqual({ reason: 'stopped', status: 0 });
  });

  test('keeps what its guest printed, and says what it printed instead of what was awaited', async () => {
    await using machine = await load('hello');
    const never = machine.waitFor(/goodbye/);
    const [hello] = await Promise.all([machine.waitFor(/hello from (\w+ \w+)/), machine.run()]);
    expect(hello[1]).toBe('a script');
    expect(machine.output.text).toBe('hello from a script\n');
    await expect(never).rejects.toThrow('/goodbye/: the machine has ended; it printed last: hello from a script');
  });
});

test('memory and APICs are there after the end, and go back to the host with the machine', async () => {
  const machine = await load('hello');
  machine.memory.fill(0x5a);
  await machine.run();
  expect(machine.memory.at(-1)).toBe(0x5a);
  expect(machine.lapic(0).apicId).toBe(0);
  await machine[Symbol.asyncDispose]();
  expect(machine.memory.findIndex((byte) => byte !== 0)).toBe(-1);
  const gone = 'the machine has been disposed of; look at it before that';
  expect(() => machine.lapic(0)).toThrow(gone);
  expect(() => machine.apicMap()).toThrow(gone);
  await expect(machine.inspect()).rejects.toThrow(gone);
  await expect(machine.why(0)).rejects.toThrow(gone);
});

describe('a signal', () => {
  test('ends a machine that runs', async () => {
    const control = new AbortController();
    await using machine = await load('sleep', { signal: control.signal });
    const run = machine.run();
    await machine.waitFor('R');
    control.abort();
    expect(await run).toEqual({ reason: 'stopped', status: 130 });
  });

  test('that has aborted makes no machine', async () => {
    const signal = AbortSignal.abort(new Error('no more'));
    await expect(load('sleep', { signal })).rejects.toThrow('no more');
  });

  test('that aborts while the machine is made is why there is none', async () => {
    const control = new AbortController();
    const making = load('sleep', { signal: control.signal });
    setImmediate(() => control.abort(new Error('too late')));
    await expect(making).rejects.toThrow('too late');
  });
});

describe('devices of the user', () => {
  const url = (code: string): string => `data:text/javascript,${encodeURIComponent(code)}`;
  const at = (base: number): string => `export const devices = (board) => [{
    name: 'mine', ranges: [{ space: 'pio', base: ${base}, length: 1 }], read: () => 0x5a,
    write() { for (const byte of Buffer.from('written\\n')) board.report({ type: 'transmit', byte }); },
    reset() {}, save: () => ({}), restore() {} }];`;

  test('are on the bus', async () => {
    await using machine = await load('flood-unclaimed', { devices: [url(at(0x999))] });
    void machine.run();
    await machine.waitFor('written');
  });

  test.each([
    ['sit where another is', at(0x3f8), 'mine (pio 0x3f8-0x3f8) overlaps serial (pio 0x3f8-0x3ff)'],
    ['are not exported', 'export const device = 1;', 'it does not export a function named devices'],
    ['do not load', 'export const devices = nothing();', 'nothing is not defined'],
    ['are no list', 'export const devices = () => 7;', 'its function devices answers no list of devices'],
    [
      'lack methods',
      "export const devices = () => [{ name: 'x', ranges: [], read() {} }];",
      'no write, reset, save, restore',
    ],
    [
      'drive a line that there is not',
      'export const devices = (b) => [b.line(99)];',
      'there is no GSI 99: give 0 to 23',
    ],
  ])('that %s are refused in one line', async (_, code, message) => {
    const creating = load('hello', { devices: [url(code)] });
    await expect(creating).rejects.toThrow(ConfigError);
    await expect(creating).rejects.toThrow(message);
  });
});

describe('a process', () => {
  const run = (program: string, ...options: string[]) => {
    const { status, signal, stdout, stderr } = spawnSync(
      process.execPath,
      [...options, '--input-type=module', '-e', `import { Machine } from 'apiary'; ${program}`],
      { cwd: ROOT, encoding: 'utf8', timeout: 25_000, killSignal: 'SIGKILL' },
    );
    return { status, signal, stdout, stderr };
  };
  const begin = `
    const machine = await Machine.create({ script: '${SCRIPTS}?sleep', cpus: 2 });
    await machine.load(Uint8Array.of(0xf4), { loadAddress: 0x1000 });
    await machine.hotplug(7);`;

  test.each([
    ['never ran', ''],
    ['was stopped', 'await machine.stop();'],
    [
      'still runs, by process.exit',
      "machine.run(); await machine.waitFor('R'); setTimeout(() => process.exit(), 100);",
    ],
  ])('ends with a machine that %s', (_, end) => {
    const ended = run(`${begin} ${end} console.log('end of program');`);
    expect(ended).toEqual({ status: 0, signal: null, stdout: 'end of program\n', stderr: '' });
  });

  test('has no unhandled rejection where `meanwhile` throws at once', () => {
    const ended = run(`
      process.on('unhandledRejection', (error) => console.log('unhandled', error));
      const throws = () => { throw new Error('at once'); };
      await Machine.create({ script: '${SCRIPTS}?sleep', cpus: 2 }, throws).catch((error) => console.log(error.message));
      await new Promise((resolve) => setTimeout(resolve, 50));`);
    expect(ended).toEqual({ status: 0, signal: null, stdout: 'at once\n', stderr: '' });
  });

  test('gives back the threads that there are when the host has no more, and says so', () => {
    const ended = run(`
      import threads from 'node:worker_threads';
      const { Worker } = threads;
      let left = 2;
      threads.Worker = class extends Worker {
        constructor(...args) {
          if (left-- === 0) throw new Error('EAGAIN');
          super(...args);
        }
      };
      const create = (threads) => Machine.create({ script: '${SCRIPTS}?sleep', cpus: 3, threads });
      await create(3).catch((error) => console.log(error.name, error.message));
      await (await create(2)).stop();
      console.log('end');`);
    const stdout = expect.stringMatching(/^HostError cannot start a worker thread: EAGAIN; .*ulimit -u.*\nend\n$/);
    expect(ended).toEqual({ status: 0, signal: null, stdout, stderr: '' });
  });

  test('keeps the options that it was started with from its workers', () => {
    const preload = `data:text/javascript,console.log('preloaded')`;
    const ended = run(`${begin} await machine.stop(); console.log('end');`, '--import', preload);
    expect(ended).toEqual({ status: 0, signal: null, stdout: 'preloaded\nend\n', stderr: '' });
  });
});
