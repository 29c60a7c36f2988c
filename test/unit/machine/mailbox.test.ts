/** Device requests of other workers: every operation comes through with its values, between two real threads. */
import { Worker } from 'node:worker_threads';
import { afterEach, describe, expect, test } from 'vitest';
import { type DevicePort, serveMailboxes } from '../../../src/machine/shared/mailbox.ts';
import { nativeHost } from '../../../src/machine/shared/native-host.ts';
import { Attention, MachineWord, SharedState, WorkerWord } from '../../../src/machine/shared/shared.ts';
import { stopWorker } from '../../../src/machine/shared/signals.ts';

let thread: Worker | undefined;

afterEach(async () => {
  await thread?.terminate();
  thread = undefined;
});

/** A thread that carries out `calls` on RemoteDevices as worker 1, and answers with the results. */
function requester(shared: SharedState, calls: readonly (readonly [string, ...unknown[]])[]): Promise<unknown[]> {
  const program = new URL('./mailbox-worker.ts', import.meta.url).href;
  const loadTypeScript = `import('tsx/esm/api').then((tsx) => { tsx.register(); return import('${program}'); })`;
  const started = new Worker(loadTypeScript, { eval: true, workerData: { buffer: shared.buffer, calls } });
  thread = started;
  return new Promise((resolve, reject) => {
    started.once('message', resolve);
    started.once('error', reject);
  });
}

/** What worker 0 does between two runs of its vCPUs, until `done`. */
async function serveUntil(shared: SharedState, devices: DevicePort, done: () => boolean): Promise<void> {
  const attention = shared.worker(0, WorkerWord.attention);
  while (!done()) {
    if (Atomics.exchange(shared.words, attention, 0) & Attention.mailbox) serveMailboxes(shared, devices);
    await new Promise(setImmediate);
  }
}

function machineOfTwo(): SharedState {
  const shared = new SharedState(4, nativeHost);
  Atomics.store(shared.words, MachineWord.workers, 2);
  return shared;
}

describe('a mailbox', () => {
  test('carries every operation, wide addresses and values, and answers', async () => {
    const seen: unknown[][] = [];
    const devices: DevicePort = {
      read: (...parameters) => seen.push(['read', ...parameters]) && 0xffff_ffff,
      write: (...parameters) => void seen.push(['write', ...parameters]),
      endOfInterrupt: (vector) => void seen.push(['endOfInterrupt', vector]),
      acknowledgePic: () => seen.push(['acknowledgePic']) && 0x37,
    };
    const calls = [
      ['read', 'pio', 0x3fd, 1],
      ['write', 'pio', 0xffff, 4, 0xffff_ffff],
      ['read', 'mmio', 0xfec0_0010, 4],
      ['write', 'mmio', 0x0000_00fe_dcba_9876, 2, 0x8000],
      ['endOfInterrupt', 0xff],
      ['acknowledgePic'],
    ] as const;
    const shared = machineOfTwo();
    let answers: unknown[] | undefined;
    const asked = requester(shared, calls).then((result) => {
      answers = result;
    });
    await serveUntil(shared, devices, () => answers !== undefined);
    await asked;
    expect(seen).toEqual(calls);
    expect(answers).toEqual([0xffff_ffff, null, 0xffff_ffff, null, null, 0x37]);
  });

  test('a requester that is told to stop gives up at once, with all ones', async () => {
    const shared = machineOfTwo();
    const answer = requester(shared, [['read', 'pio', 0x3fd, 1]]);
    const box = shared.worker(1, WorkerWord.boxState);
    while (Atomics.load(shared.words, box) === 0) await new Promise(setImmediate);
    stopWorker(shared, 1);
    expect(await answer).toEqual([0xffff_ffff]);
  });

  test('serving with nothing asked does nothing', () => {
    const devices = {} as DevicePort; // any call would throw
    serveMailboxes(machineOfTwo(), devices);
  });
});
