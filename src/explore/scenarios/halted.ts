/** Scenarios of the end: worker 0 says that no vCPU can run again, while others still do. */
import { DELIVERY } from '../../apic/index.ts';
import { RunState } from '../../machine/shared/shared.ts';
import { stopWorker, wakeVcpu } from '../../machine/shared/signals.ts';
import type { AnyScenario, Scenario } from '../scenario.ts';
import { HLT_IF_OFF, type MachineWorld, machine } from './machine-world.ts';

/** Worker 0's vCPU sleeps for good, but for an NMI that worker 1's vCPU sends before it does the same. */
const halted: Scenario<MachineWorld> = {
  name: 'halted-for-good',
  from: 'machine/shared/shared.ts',
  promise: 'if none published anything in between, all were so at once',
  world: () =>
    machine({
      workers: [
        {
          0: function* (thread, vcpu) {
            while (!vcpu.taken.includes('NMI')) yield HLT_IF_OFF;
            yield thread.end;
          },
        },
        {
          1: function* (thread) {
            yield () => {
              thread.send(0, 0, DELIVERY.NMI);
              return HLT_IF_OFF;
            };
            for (;;) yield HLT_IF_OFF;
          },
        },
      ],
      words: ['said: halted for good'],
    }),
  threads: {
    'worker 0': (world) => {
      const worker = world.worker(0);
      worker.onHaltedForGood = () => void Atomics.store(worker.own, 0, 1);
      return () => {
        const taken = worker.loop('NMI');
        stopWorker(worker.shared, 1);
        return taken;
      };
    },
    'worker 1': (world) => {
      const worker = world.worker(1);
      return () => worker.loop();
    },
  },
  check: (world, [taken]) =>
    world.own()[0] === 1 && taken === 1 ? 'all were said to be halted, and a vCPU ran after that' : '',
};

/**
 * vCPU 2 wakes vCPU 1, which wakes vCPU 0, and each halts for good after that: at no time can none of them run again. They do
 * to shared memory what their run loops do.
 */
const passedOn: Scenario<MachineWorld> = {
  name: 'halted-while-a-wake-up-is-passed-on',
  from: 'machine/shared/shared.ts',
  promise: 'if none published anything in between, all were so at once',
  world: () =>
    machine({
      workers: [{}],
      words: ['vCPU 1 is woken'],
      prepare: ({ shared }) => {
        for (const vcpuIndex of [0, 1]) shared.setRunState(vcpuIndex, RunState.haltedWithoutIf);
        shared.setRunState(2, RunState.running);
      },
    }),
  threads: {
    'worker 0': (world) => {
      const { shared } = world.outsider();
      return () => (shared.isHaltedForGood() ? 1 : 0);
    },
    'vCPU 2': (world) => {
      const { shared, own, worker } = world.outsider();
      return () => {
        wakeVcpu(shared, 1, worker);
        Atomics.store(own, 0, 1);
        Atomics.notify(own, 0);
        shared.setRunState(2, RunState.haltedWithoutIf);
      };
    },
    'vCPU 1': (world) => {
      const { shared, own, worker } = world.outsider();
      return () => {
        while (Atomics.load(own, 0) === 0) Atomics.wait(own, 0, 0);
        Atomics.store(shared.words, shared.request(1), 0);
        shared.setRunState(1, RunState.running);
        wakeVcpu(shared, 0, worker);
        shared.setRunState(1, RunState.haltedWithoutIf);
        Atomics.and(shared.words, shared.readyRow(0), ~(1 << 1));
      };
    },
  },
  check: (_world, [said]) => (said === 0 ? '' : 'all were said to be halted for good while vCPU 0 or 1 had been woken'),
};

export const HALTED_SCENARIOS: readonly AnyScenario[] = [halted, passedOn];
