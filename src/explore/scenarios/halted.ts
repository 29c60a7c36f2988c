/** Scenarios of the end: worker 0 says that no vCPU can run again, while others still do. */
import { DELIVERY } from '../../apic/index.ts';
import { stopWorker } from '../../machine/shared/signals.ts';
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

export const HALTED_SCENARIOS: readonly AnyScenario[] = [halted];
