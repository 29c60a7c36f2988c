/** The layout of the shared memory: no word is two things, and each thread sees the same. */
import { describe, expect, test } from 'vitest';
import { nativeHost } from '../../../src/machine/shared/native-host.ts';
import {
  guestCode,
  MAX_WORKERS,
  MachineWord,
  RunState,
  SharedState,
  WorkerWord,
} from '../../../src/machine/shared/shared.ts';

describe.each([1, 31, 32, 33, 1024])('room for %i vCPUs', (maxVcpus) => {
  const shared = new SharedState(maxVcpus, nativeHost);

  test('no two words overlap, and all are inside', () => {
    const used = new Set<number>();
    const claim = (word: number): void => {
      expect(used.has(word)).toBe(false);
      expect(word).toBeLessThan(shared.words.length);
      used.add(word);
    };
    for (const word of Object.values(MachineWord)) claim(word);
    for (const worker of [0, 1, MAX_WORKERS - 1]) {
      for (const word of Object.values(WorkerWord)) claim(shared.worker(worker, word));
      for (let word = 0; word < shared.rowWords; word++) claim(shared.readyRow(worker) + word);
    }
    for (const vcpuIndex of new Set([0, maxVcpus >> 1, maxVcpus - 1])) {
      claim(shared.request(vcpuIndex));
      claim(shared.request(vcpuIndex) - 1); // home
      claim(shared.request(vcpuIndex) + 1); // run state
    }
  });

  test('each worker has a cache line of its own', () => {
    const line = (worker: number): number => (shared.worker(worker, 0) * 4) >> 6;
    expect(line(1)).toBe(line(0) + 1);
    expect((shared.worker(0, 0) * 4) % 64).toBe(0);
  });

  test('another view of the same buffer sees what was stored', () => {
    const other = new SharedState(maxVcpus, nativeHost, shared.buffer);
    shared.setHome(maxVcpus - 1, 7);
    shared.setRunState(maxVcpus - 1, RunState.halted);
    expect(other.home(maxVcpus - 1)).toBe(7);
    expect(other.runState(maxVcpus - 1)).toBe(RunState.halted);
    expect(other.runState(0)).toBe(maxVcpus === 1 ? RunState.halted : RunState.absent);
  });
});

test('a guest code names the vCPU, is over 0, and tells a slice from none', () => {
  for (const vcpuIndex of [0, 1, 1023]) {
    for (const sliced of [false, true]) {
      const code = guestCode(vcpuIndex, sliced);
      expect(code).toBeGreaterThan(0);
      expect(code >> 1).toBe(vcpuIndex + 1);
      expect((code & 1) === 1).toBe(sliced);
    }
  }
});
