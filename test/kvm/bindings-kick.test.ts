/**
 * The addon's promises about kicks, timers and lifetimes, on the real KVM with guests that never exit by themselves.
 * A lost kick shows as a wait that times out.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Worker } from 'node:worker_threads';
import { ExitReason, native } from 'apiary/kvm';
import { afterEach, describe, expect, test } from 'vitest';
import { CODE, type Guest, kvmProblem, makeGuest } from './bindings-guest.ts';

const EINTR = 4;
const EBADF = 9;
const FOREVER = 'ebfe'; // jmp .
const LOST_MS = 5000;
const REQUESTED = 0;
const ACKNOWLEDGED = 1;
const RETURNS = 2;

const problem = kvmProblem();
let guest: Guest | undefined;
let worker: Worker | undefined;

afterEach(async () => {
  if (worker !== undefined) {
    const ended = worker.terminate();
    native.kick(threadId);
    await ended;
  }
  worker = undefined;
  guest?.close();
  guest = undefined;
});

let threadId = 0;
let words = new Int32Array(new SharedArrayBuffer(16));

/** A worker that runs the guest's vCPU; resolves when it is about to enter for the first time. */
async function startWorker({ vcpu, vm }: Guest): Promise<Worker> {
  words = new Int32Array(new SharedArrayBuffer(16));
  const workerData = { vcpuFd: vcpu.fd, mmapSize: vm.vcpuMmapSize, shared: words.buffer };
  const started = new Worker(new URL('./bindings-worker.mjs', import.meta.url), { workerData });
  threadId = await new Promise((resolve, reject) => {
    started.once('message', resolve);
    started.once('error', reject);
  });
  return started;
}

/** Publishes request `number`, kicks, and says whether the worker saw it. */
function request(number: number): boolean {
  Atomics.store(words, REQUESTED, number);
  native.kick(threadId);
  while (Atomics.load(words, ACKNOWLEDGED) !== number) {
    const outcome = Atomics.wait(words, ACKNOWLEDGED, number - 1, LOST_MS);
    if (outcome === 'timed-out') return false;
  }
  return true;
}

function spin(nanos: number): void {
  const until = native.nowNanos() + nanos;
  while (native.nowNanos() < until);
}

describe.skipIf(problem !== undefined)(
  `kicks and timers${problem === undefined ? '' : ` (skipped: ${problem})`}`,
  () => {
    test('a kick before run() ends it at once, and only it', () => {
      guest = makeGuest('e6f4 ebfe'); // out 0xf4, al; jmp .
      expect(native.kick(native.threadId())).toBe(true);
      expect(guest.run.run()).toBe(-EINTR);
      expect(guest.run.run()).toBe(0);
      expect(guest.run.exitReason).toBe(ExitReason.IO);
    });

    test('the I/O of the exit before is completed by a run() that a kick ends', () => {
      guest = makeGuest('e560 ebfe'); // in ax, 0x60; jmp .
      expect(guest.run.run()).toBe(0);
      guest.run.setIoValue(0, 0x1234);
      native.kick(native.threadId());
      expect(guest.run.run()).toBe(-EINTR);
      expect(guest.vcpu.getRegs()).toMatchObject({ rip: BigInt(CODE + 2), rax: 0x1234n });
    });

    test('immediateExit does the same without a kick, once', () => {
      guest = makeGuest('e6f4 ebfe');
      guest.run.immediateExit = true;
      expect(guest.run.run()).toBe(-EINTR);
      expect(guest.run.immediateExit).toBe(false);
      expect(guest.run.run()).toBe(0);
    });

    test('a kick is not used up by a run() that only completes an exit', () => {
      guest = makeGuest('e6f4 ebfe');
      native.kick(native.threadId());
      guest.run.immediateExit = true;
      expect(guest.run.run()).toBe(-EINTR);
      expect(guest.run.run()).toBe(-EINTR);
      expect(guest.run.run()).toBe(0);
    });

    test('500 kicks from another thread after random delays: none is lost', async () => {
      guest = makeGuest(FOREVER);
      worker = await startWorker(guest);
      for (let number = 1; number <= 500; number++) {
        spin(Math.random() ** 3 * 300_000);
        expect(request(number), `kick ${number}`).toBe(true);
      }
      expect(Atomics.load(words, RETURNS)).toBeGreaterThanOrEqual(499);
    });

    test('500 kicks of a guest that exits all the time: none is lost', async () => {
      guest = makeGuest('e6f4 ebfc'); // out 0xf4, al; jmp back
      worker = await startWorker(guest);
      for (let number = 1; number <= 500; number++) {
        spin(Math.random() * 30_000);
        expect(request(number), `kick ${number}`).toBe(true);
      }
    });

    test('20,000 signals around the entry to KVM_RUN: none is lost', () => {
      expect(script('bindings-timers.mjs')).toEqual([0, null]);
    });

    test('a thread that is gone cannot be kicked', async () => {
      guest = makeGuest(FOREVER);
      worker = await startWorker(guest);
      const exited = new Promise((resolve) => worker?.once('exit', resolve));
      expect(request(-1)).toBe(true);
      await exited;
      worker = undefined;
      for (let tries = 0; tries < 100 && native.kick(threadId); tries++) spin(1_000_000);
      expect(native.kick(threadId)).toBe(false);
    });

    describe('the timer', () => {
      test('ends run() at its deadline, not before', () => {
        guest = makeGuest(FOREVER);
        for (const delay of [100_000, 1_000_000, 5_000_000]) {
          const deadline = native.nowNanos() + delay;
          native.armTimer(deadline);
          expect(guest.run.run()).toBe(-EINTR);
          const late = native.nowNanos() - deadline;
          expect(late).toBeGreaterThanOrEqual(0);
          expect(late).toBeLessThan(2_000_000_000);
        }
      });

      test('with a deadline that has passed ends the next run()', () => {
        guest = makeGuest(FOREVER);
        for (const deadline of [0, 1, native.nowNanos() - 1, Number.NEGATIVE_INFINITY]) {
          native.armTimer(deadline);
          expect(guest.run.run()).toBe(-EINTR);
        }
      });

      test('keeps the last deadline it was given, and none after Infinity', () => {
        guest = makeGuest(FOREVER);
        const start = native.nowNanos();
        native.armTimer(start + 3_000_000);
        native.armTimer(Number.POSITIVE_INFINITY);
        native.armTimer(start + 1_000_000);
        native.armTimer(start + 20_000_000);
        expect(guest.run.run()).toBe(-EINTR);
        expect(native.nowNanos()).toBeGreaterThanOrEqual(start + 20_000_000);
      });
    });

    describe('endings', () => {
      test('worker.terminate() and one kick end a thread inside KVM_RUN, 20 times', async () => {
        guest = makeGuest(FOREVER);
        for (let round = 0; round < 20; round++) {
          const victim = await startWorker(guest);
          spin(Math.random() * 2_000_000);
          const ended = victim.terminate();
          native.kick(threadId);
          expect(await ended).toBe(1);
          expect(existsSync(`/proc/self/task/${threadId}`)).toBe(false);
        }
        native.armTimer(native.nowNanos() + 1_000_000);
        expect(guest.run.run()).toBe(-EINTR); // the vCPU is as good as before
        expect(mappings()).toBe(1);
      });

      test.each([
        ['exit', 3],
        ['throw', 1],
        ['end', 0],
      ])('the process ends although a worker is inside KVM_RUN: %s', (how, status) => {
        expect(script('bindings-exit.mjs', how)).toEqual([status, null]);
      });

      test('the signal may arrive after the last worker that loaded the addon is gone', () => {
        expect(script('bindings-unload.mjs')).toEqual([3, null]);
      });
    });

    describe('the mapping of kvm_run', () => {
      test('after unmap reads nothing, runs nothing, and unmaps again without harm', () => {
        guest = makeGuest('f4');
        const run = guest.vcpu.mapRun();
        expect(run.run()).toBe(0);
        run.unmap();
        run.unmap();
        expect(run.bytes).toHaveLength(0);
        expect(run.exitReason).toBe(0);
        expect(run.run()).toBe(-EBADF);
        expect(native.run(run.handle + 1000)).toBe(-EBADF);
        expect(native.run(Number.NaN)).not.toBe(0);
      });

      test('goes away with the garbage, and its memory too', async () => {
        guest = makeGuest('f4');
        setFlagsFromString('--expose-gc');
        const collect: () => void = runInNewContext('gc');
        for (let i = 0; i < 200; i++) guest.vcpu.mapRun();
        // Those of earlier tests go as well: the guest's own is left.
        for (let tries = 0; tries < 20 && mappings() > 1; tries++) {
          collect();
          await new Promise((resolve) => setImmediate(resolve));
        }
        expect(mappings()).toBe(1);
        expect(guest.run.run()).toBe(0);
      });

      test('of a descriptor that is no vCPU is an error', () => {
        expect(() => native.mapRun(-1, 12288)).toThrow(/^mmap kvm_run of descriptor -1: EBADF/);
      });
    });
  },
);

/** Runs one of the scripts beside this file. @returns exit status and signal */
function script(name: string, ...args: string[]): unknown[] {
  const path = fileURLToPath(new URL(name, import.meta.url));
  const { status, signal } = spawnSync(process.execPath, [path, ...args], { encoding: 'utf8', timeout: 20_000 });
  return [status, signal];
}

/** How many kvm_run mappings this process has. */
function mappings(): number {
  return readFileSync('/proc/self/maps', 'utf8').match(/anon_inode:kvm-vcpu/g)?.length ?? 0;
}
