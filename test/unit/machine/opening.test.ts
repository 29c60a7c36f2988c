/**
 * A machine whose worker 0 begins on main: what a thread keeps from main, main has to do between two turns. Guests are scripts;
 * but for the last group no thread is to be had, so that they stay where they began.
 */
import { describe, expect, test } from 'vitest';
import { ScriptedHost } from '../../../src/machine/loop/scripted-host.ts';
import { type ScriptedStep, ScriptedVcpu } from '../../../src/machine/loop/scripted-vcpu.ts';
import type { Machine as SourceMachine } from '../../../src/machine/machine.ts';
import type { Opening as SourceOpening } from '../../../src/machine/opening.ts';
import type { MachineOptions } from '../../../src/machine/options.ts';
import type { CpuHandle } from '../../../src/machine/shared/messages.ts';
import type { Thread as SourceThread } from '../../../src/machine/thread.ts';

// Built, as what starts threads is.
const DIST = new URL('../../../dist/machine/', import.meta.url).href;
const { Machine } = (await import(`${DIST}machine.js`)) as { Machine: typeof SourceMachine };
const { Opening } = (await import(`${DIST}opening.js`)) as { Opening: typeof SourceOpening };
const { Thread } = (await import(`${DIST}thread.js`)) as { Thread: typeof SourceThread };
const { guests } = (await import('./scripts/guests.mjs' as string)) as {
  guests: Record<string, (cpu: CpuHandle) => Iterable<ScriptedStep>>;
};
const SCRIPTS = new URL('./scripts/guests.mjs', import.meta.url).href;

const noThread = (): never => {
  throw new Error('no thread');
};

async function load(
  guest: string,
  options: MachineOptions = {},
  takeThread: () => SourceThread = noThread,
): Promise<SourceMachine> {
  const script = `${SCRIPTS}?${guest}`;
  const host = new ScriptedHost();
  const openVcpu = (cpu: CpuHandle) => new ScriptedVcpu(host, guests[guest]?.(cpu) ?? []);
  const machine = await Machine.create({
    script,
    threads: 1,
    ...options,
    players: (worker) => (worker === 0 ? new Opening({ openVcpu: () => openVcpu, takeThread }) : Thread.take()),
  });
  await machine.load(Uint8Array.of(0xf4), { loadAddress: 0x1000 });
  return machine;
}

/** Turns of the event loop while `promise` is not settled. */
async function beats(promise: Promise<unknown>): Promise<number> {
  let over = false;
  promise.then(
    () => {
      over = true;
    },
    () => {
      over = true;
    },
  );
  let count = 0;
  for (; !over; count++) await new Promise((resolve) => setImmediate(resolve));
  return count;
}

describe('a guest on main', () => {
  test('needs no thread', async () => {
    const machine = await load('hello');
    expect(await machine.run()).toEqual({ reason: 'debug-exit', status: 1 });
    expect(machine.output.text).toBe('hello from a script\n');
  });

  test.each([
    ['flood-unclaimed', {}],
    ['flood-serial', {}],
    ['flood-ost', {}],
    ['flood-halt', { keepHalted: true }],
    ['flood-reset', { reboot: true }],
    ['flood-init', { reboot: true }],
  ])('that is %s lets main go on, tells what it does and ends at the time limit', async (guest, options) => {
    const machine = await load(guest, { ...options, timeoutMs: 200 });
    const run = machine.run();
    const turns = await beats(run);
    expect(await run).toMatchObject({ reason: 'timeout', status: 124 });
    expect(turns).toBeGreaterThan(1); // how many more is the host’s affair
  });

  test('waits for whoever takes its output, and is stopped all the same', async () => {
    const machine = await load('flood-newlines');
    let bytes = 0;
    machine.on('serial', (chunk) => {
      bytes += chunk.length;
      return new Promise(() => {}); // never taken
    });
    const run = machine.run();
    await machine.waitFor('\n');
    for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setTimeout(resolve, 2));
    expect(bytes).toBeLessThan(2 ** 13); // the listener has one, the others wait
    await machine.stop(7);
    expect(await run).toEqual({ reason: 'stopped', status: 7 });
  });

  test('sleeps until it is typed to', async () => {
    await using machine = await load('echo');
    const run = machine.run();
    await machine.waitFor('R');
    const text = 'x'.repeat(10_000);
    await machine.sendSerial(text);
    await machine.sendSerial('q');
    expect(await run).toMatchObject({ reason: 'debug-exit' });
    expect(machine.output.text).toBe(`R\n${text}q`);
  });

  test('sleeps until its timer rings', async () => {
    const machine = await load('nap');
    expect(await machine.run()).toEqual({ reason: 'debug-exit', status: 1 });
    expect(machine.output.text).toBe('rung\n');
  });

  test('is looked at, and gets CPUs and loses them', async () => {
    await using machine = await load('sleep', { cpus: 2, hotpluggable: [7] });
    void machine.run();
    await machine.waitFor('R');
    await machine.hotplug(7);
    await machine.unplug(1);
    await machine.powerButton();
    const { vcpus } = await machine.inspect();
    expect(vcpus.map(({ apicId, state }) => [apicId, state])).toEqual([
      [0, 'halted'],
      [1, 'waiting for SIPI'],
      [7, 'waiting for SIPI'],
    ]);
  });

  test('that halts for good says so', async () => {
    const machine = await load('halt');
    expect(await machine.run()).toMatchObject({ reason: 'halted', status: 14 });
  });

  test('starts a CPU on a thread, serves its devices in its sleep and is woken by it', async () => {
    const machine = await load('relay', { cpus: 2, threads: 2 });
    expect(await machine.run()).toEqual({ reason: 'debug-exit', status: 1 });
    expect(machine.output.text).toBe('from the other CPU\nwoken\n');
  });

  test('that breaks the monitor ends with its words', async () => {
    const machine = await load('broken');
    const run = machine.run();
    expect(await run).toMatchObject({ reason: 'monitor-error', detail: 'worker 0: the script is over' });
    expect(machine.output.text).toBe('last words');
  });
});

describe('a guest that runs on', () => {
  test('moves to a thread, which goes on with its CPUs, devices and memory', async () => {
    let thread: SourceThread | undefined;
    await using machine = await load('moving', {}, () => {
      thread = Thread.take();
      return thread;
    });
    const run = machine.run();
    expect(await run).toEqual({ reason: 'debug-exit', status: 1 });
    expect(machine.output.text).toBe('on main\non a thread: scratch 0x5a, mode x2APIC, TPR 0x50\n');
    expect(thread?.hasEnded).toBe(false); // it waits for the next machine
  });

  test('moves in its sleep, too, and whoever wakes it finds it there', async () => {
    const machine = await load('moving-asleep', { cpus: 2, threads: 2 }, () => Thread.take());
    expect(await machine.run()).toEqual({ reason: 'debug-exit', status: 1 });
    expect(machine.output.text).toBe('on main\nawake on a thread\n');
  });

  test('ends while its thread loads', async () => {
    const machine = await load('flood-unclaimed', {}, () => Thread.take());
    const run = machine.run();
    await new Promise((resolve) => setTimeout(resolve, 10));
    await machine.stop();
    expect(await run).toEqual({ reason: 'stopped', status: 0 });
  });

  test('stays where it is when its thread dies', async () => {
    const dead = Thread.take();
    dead.terminate();
    await dead.finished();
    const machine = await load('flood-unclaimed', { timeoutMs: 200 }, () => dead);
    expect(await machine.run()).toMatchObject({ reason: 'timeout' });
  });
});
