/** The lock of the map: a thread that ends while it holds it must not hang the others for ever. */
import { expect, it } from 'vitest';
import { ApicSystem } from '../../../src/apic/index.ts';
import { HEADER } from '../../../src/apic/layout.ts';
import { lock, unlock } from '../../../src/apic/lock.ts';
import { LDR, write } from './helpers.ts';

it('is taken, given back, and taken again', () => {
  const words = new Int32Array(new SharedArrayBuffer(4));
  lock(words, 0, 'a test');
  unlock(words, 0);
  lock(words, 0, 'a test');
  expect(words[0]).not.toBe(0);
});

it('held by a thread that is gone: one line that says what was being done, after a limit', () => {
  const words = new Int32Array(new SharedArrayBuffer(4));
  lock(words, 0, 'a test');
  expect(() => lock(words, 0, 'a rebuild', 1)).toThrow(/^a rebuild was begun by a thread that has ended or hangs/);
});

it('an observer that throws in the middle of a rebuild leaves the lock free and the map right', () => {
  const system = new ApicSystem();
  const apic = system.addApic(0);
  write(apic, 0xf0, 0x1ff);
  system.trace = {
    event: ({ kind }) => {
      if (kind === 'map') throw new Error('no room');
    },
  };
  expect(() => write(apic, LDR, 0x01000000)).toThrow('no room');
  system.trace = null;
  expect(new Int32Array(system.memory)[HEADER.MAP_LOCK]).toBe(0);
  write(apic, LDR, 0x02000000);
  expect([...system.map().logical]).toEqual([['1', 0]]);
  expect(system.addApic(1).vcpuIndex).toBe(1);
});
