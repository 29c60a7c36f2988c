/** Nobody can run again: told once every vCPU is halted with interrupts off, waits for a SIPI or is parked; never before. */
import { describe, expect, test } from 'vitest';
import { RunState } from '../../../src/machine/shared/shared.ts';
import { HLT, HLT_IF_OFF, LoopRig, NOTHING } from './loop-rig.ts';

const told = (rig: LoopRig): boolean => rig.said.includes('halted for good');

/** Runs until the worker sleeps. */
function sleep(rig: LoopRig): LoopRig {
  rig.host.whileAsleep.push(() => rig.stop());
  return rig.loop();
}

describe('a machine whose CPUs all sit in HLT', () => {
  test('with interrupts off: nobody runs again', () => {
    expect(told(sleep(new LoopRig([[NOTHING, HLT_IF_OFF], [HLT_IF_OFF]])))).toBe(true);
  });

  test('one of them with interrupts on: it waits for one', () => {
    expect(told(sleep(new LoopRig([[HLT_IF_OFF], [HLT]])))).toBe(false);
  });

  test('others wait for a SIPI or are parked', () => {
    const rig = new LoopRig([[HLT_IF_OFF]]);
    rig.shared.setRunState(5, RunState.waitForSipi);
    rig.shared.setRunState(6, RunState.parked);
    expect(told(sleep(rig))).toBe(true);
  });

  test('another one runs, on another worker', () => {
    const rig = new LoopRig([[HLT_IF_OFF]]);
    rig.shared.setHome(5, 1);
    rig.shared.setRunState(5, RunState.running);
    expect(told(sleep(rig))).toBe(false);
  });

  test('something is on its way to one of them: looked at once that has been taken', () => {
    const rig = new LoopRig([[HLT_IF_OFF]]);
    rig.shared.setHome(5, 1);
    rig.shared.setRunState(5, RunState.haltedWithoutIf);
    rig.send(0, { deliveryMode: 4 });
    expect(rig.shared.isHaltedForGood()).toBe(false);
    const { words } = rig.shared;
    Atomics.store(words, rig.shared.request(0), 0);
    Atomics.and(words, rig.shared.readyRow(0), 0);
    rig.shared.setRunState(0, RunState.haltedWithoutIf);
    expect(rig.shared.isHaltedForGood()).toBe(true);
    Atomics.or(words, rig.shared.readyRow(1), 1 << 5);
    expect(rig.shared.isHaltedForGood()).toBe(false);
  });

  test('one ran between the two looks: not now', () => {
    const rig = new LoopRig([]);
    rig.shared.setRunState(3, RunState.haltedWithoutIf);
    const load = Atomics.load;
    let loads = 0;
    try {
      Atomics.load = ((...parameters: Parameters<typeof load>) => {
        // The vCPU ran and halted again after it was looked at for the first time.
        if (++loads === 60) rig.shared.setRunState(3, RunState.haltedWithoutIf);
        return load(...parameters);
      }) as typeof load;
      expect(rig.shared.isHaltedForGood()).toBe(false);
    } finally {
      Atomics.load = load;
    }
    expect(rig.shared.isHaltedForGood()).toBe(true);
  });

  test('none is halted: they all wait for a SIPI, as before the start', () => {
    const rig = new LoopRig([]);
    rig.shared.setRunState(3, RunState.waitForSipi);
    expect(rig.shared.isHaltedForGood()).toBe(false);
  });

  test('before the guest starts nothing is told', () => {
    const rig = new LoopRig([[HLT_IF_OFF]]);
    rig.scheduler.hold();
    rig.shared.setRunState(0, RunState.haltedWithoutIf);
    Atomics.and(rig.shared.words, rig.shared.readyRow(0), 0);
    expect(told(sleep(rig))).toBe(false);
  });
});
