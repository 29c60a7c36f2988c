/** Scenarios of what main does to a worker that runs: pause, hold, hot-removal and return, stop. */
import { DELIVERY } from '../../apic/index.ts';
import { lock, unlock } from '../../apic/lock.ts';
import { Attention, RunState } from '../../machine/shared/shared.ts';
import { signalWorker, stopWorker } from '../../machine/shared/signals.ts';
import { WorkerPool } from '../../machine/worker-pool.ts';
import type { AnyScenario, Scenario } from '../scenario.ts';
import {
  type Guest,
  HLT,
  type MachineThread,
  type MachineWorld,
  machine,
  READY,
  type WorkerThread,
} from './machine-world.ts';

const FROM = 'machine/shared/shared.ts';

const idle: Guest = function* () {
  for (;;) yield HLT;
};
const busy: Guest = function* (thread) {
  yield READY;
  for (;;) yield thread.host.spin;
};

/** The scenario's words: what stands for the vCPU's mutex in KVM, and for the control port. */
const WORD = { MUTEX: 0, IN_GUEST: 1, MESSAGE: 2, REPLY: 3, SEEN: 4 } as const;
const WORDS = ['vCPU mutex', 'in the guest', 'message', 'reply', 'seen'];
const MESSAGE = { HOLD: 1, PARK: 2, UNPARK: 3, START: 4 } as const;

const runLoop = (world: MachineWorld) => {
  const worker = world.worker(0);
  return () => worker.loop();
};

/** The guest runs with the vCPU's mutex taken, as KVM_RUN does. */
const busyInside: Guest = function* (thread) {
  for (;;) {
    yield (vcpu) => {
      lock(thread.own, WORD.MUTEX, 'KVM_RUN');
      Atomics.store(thread.own, WORD.IN_GUEST, 1);
      const step = thread.host.spin(vcpu);
      Atomics.store(thread.own, WORD.IN_GUEST, 0);
      unlock(thread.own, WORD.MUTEX);
      return step;
    };
  }
};

/** Main uses the vCPU's descriptor, which takes its mutex, then lets the worker go on, then stops it. */
const pause: Scenario<MachineWorld> = {
  name: 'pause-a-worker-in-a-guest',
  from: FROM,
  promise: 'pause main: store; owner sleeps on it owner',
  world: () => machine({ workers: [{ 0: busyInside }], words: WORDS }),
  threads: {
    'worker 0': runLoop,
    main: (world) => {
      const main = world.outsider();
      const pool = new WorkerPool(0);
      return () => {
        // A pool of no thread of its own: `whilePaused` needs only the memory.
        pool.connect(
          main.shared,
          {} as Parameters<WorkerPool['connect']>[1],
          () => undefined,
          () => {},
        );
        const inGuest = pool.whilePaused(0, () => {
          lock(main.own, WORD.MUTEX, 'an ioctl');
          const seen = Atomics.load(main.own, WORD.IN_GUEST);
          unlock(main.own, WORD.MUTEX);
          return seen;
        });
        stopWorker(main.shared, 0);
        return inGuest;
      };
    },
  },
  check: (_world, [, inGuest]) => (inGuest === 0 ? '' : 'the guest ran while main had its descriptor'),
};

const stop = (name: string, guest: Guest): Scenario<MachineWorld> => ({
  name: `stop-${name}`,
  from: FROM,
  promise: 'Leave the run loop for good; stays set.',
  world: () => machine({ workers: [{ 0: guest }] }),
  threads: {
    'worker 0': runLoop,
    main: (world) => {
      const main = world.outsider();
      return () => stopWorker(main.shared, 0);
    },
    sender: (world) => {
      const thread = world.outsider();
      return () => thread.send(0, 0x31);
    },
  },
  check: () => '', // it ends
});

/** What worker.ts does with control messages, one at a time, answered in a word. */
function control(worker: WorkerThread): void {
  worker.onControl = () => {
    const message = Atomics.exchange(worker.own, WORD.MESSAGE, 0);
    const [cpu] = worker.cpus;
    if (message === 0 || cpu === undefined) return;
    if (message === MESSAGE.HOLD) worker.scheduler.hold();
    if (message === MESSAGE.START) worker.scheduler.start();
    if (message === MESSAGE.PARK) cpu.interrupts.park();
    if (message === MESSAGE.UNPARK) cpu.interrupts.powerUp();
    if (message === MESSAGE.PARK || message === MESSAGE.UNPARK) worker.scheduler.review(cpu);
    Atomics.store(worker.own, WORD.REPLY, message);
    Atomics.notify(worker.own, WORD.REPLY);
  };
}

const controlled = (world: MachineWorld) => {
  const worker = world.worker(0);
  control(worker);
  return () => worker.loop('0x31', 'NMI');
};

/** Main's request, as worker-pool.ts makes it: the message, then the signal, then the answer. */
function request(main: MachineThread, message: number): void {
  Atomics.store(main.own, WORD.MESSAGE, message);
  signalWorker(main.shared, 0, Attention.control);
  for (let reply = 0; reply !== message; reply = Atomics.load(main.own, WORD.REPLY)) {
    Atomics.wait(main.own, WORD.REPLY, reply);
  }
}

const hold: Scenario<MachineWorld> = {
  name: 'hold-and-start',
  from: FROM,
  promise: 'The control port has a message.',
  world: () => machine({ workers: [{ 0: busyInside }], words: WORDS }),
  threads: {
    'worker 0': controlled,
    main: (world) => {
      const main = world.outsider();
      return () => {
        request(main, MESSAGE.HOLD);
        const inGuest = Atomics.load(main.own, WORD.IN_GUEST);
        request(main, MESSAGE.START);
        stopWorker(main.shared, 0);
        return inGuest;
      };
    },
    sender: (world) => {
      const thread = world.outsider();
      return () => thread.send(0, 0x31);
    },
  },
  check: (_world, [, inGuest]) => (inGuest === 0 ? '' : 'a vCPU ran after its worker said that it holds'),
};

/** Hot-removal, while somebody sends: silent afterwards, and in no map. */
const park: Scenario<MachineWorld> = {
  name: 'park-while-others-send',
  from: FROM,
  promise: 'Out of the machine by hot-removal.',
  world: () => machine({ workers: [{ 0: busy }], words: WORDS }),
  threads: {
    'worker 0': controlled,
    main: (world) => {
      const main = world.outsider();
      return () => {
        request(main, MESSAGE.PARK);
        const taken = main.send(0, 0, DELIVERY.NMI);
        stopWorker(main.shared, 0);
        return taken;
      };
    },
    sender: (world) => {
      const thread = world.outsider();
      return () => thread.send(0, 0x31);
    },
  },
  check: (world, [, taken]) => {
    if (world.shared.runState(0) !== RunState.parked) return 'the vCPU is not parked';
    return (taken ?? 0) > 0 ? 'a vCPU that was removed took an NMI' : '';
  },
};

/** Removed and plugged in again: it takes nothing that was sent to the one that left. */
const unpark: Scenario<MachineWorld> = {
  name: 'park-and-come-back',
  from: FROM,
  promise: 'Out of the machine by hot-removal.',
  world: () => machine({ workers: [{ 0: busy }], words: WORDS }),
  threads: {
    'worker 0': controlled,
    main: (world) => {
      const main = world.outsider();
      return () => {
        const before = main.send(0, 0, DELIVERY.NMI);
        request(main, MESSAGE.PARK);
        request(main, MESSAGE.UNPARK);
        stopWorker(main.shared, 0);
        return before;
      };
    },
  },
  check: (world) => {
    const apic = world.outsider().system.apic(0);
    if (!world.outsider().system.map().physical.has(0)) return 'a CPU that came back is not in the map';
    return apic.hasNmi() ? 'a CPU that came back has an NMI that was sent before it left' : '';
  },
};

export const CONTROL_SCENARIOS: readonly AnyScenario[] = [
  pause,
  hold,
  park,
  unpark,
  stop('a-worker-that-sleeps', idle),
  stop('a-worker-in-a-guest', busy),
];
