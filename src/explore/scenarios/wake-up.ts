/** Scenarios of who wakes whom: request word, ready bit, guest word, attention, kick. */
import { DELIVERY } from '../../apic/index.ts';
import type { AnyScenario, Scenario } from '../scenario.ts';
import { type Guest, HLT, type MachineWorld, machine, READY } from './machine-world.ts';

const FROM = 'machine/shared/shared.ts';
const VECTOR = 0x31;
const OTHER_VECTOR = 0x52;
const TAKEN = '0x31';
const BOTH_PUBLISH = 'No wake-up is lost, since both sides publish before they look.';

/** Runs until it has taken all of `events`, then ends its worker; while it waits it halts, or runs. */
const takes = (events: readonly string[], { halts }: { readonly halts: boolean }): Guest =>
  function* (thread, vcpu) {
    const hasAll = (): boolean => events.every((event) => vcpu.taken.includes(event));
    yield READY;
    while (!hasAll()) yield halts ? HLT : thread.host.spin;
    yield thread.end;
  };

/** A vCPU, and one sender for each message. */
function one(
  name: string,
  guest: Guest,
  messages: readonly { readonly vector?: number; readonly mode?: number; readonly as: string }[],
): Scenario<MachineWorld> {
  const senders = messages.map(({ vector = 0, mode = DELIVERY.FIXED, as }) => [
    `sender of ${as}`,
    (world: MachineWorld) => {
      const thread = world.outsider();
      return () => thread.send(0, vector, mode);
    },
  ]);
  return {
    name: `wake-${name}`,
    from: FROM,
    promise: BOTH_PUBLISH,
    world: () => machine({ workers: [{ 0: guest }] }),
    threads: {
      'worker 0': (world) => {
        const worker = world.worker(0);
        return () => worker.loop(...messages.map(({ as }) => as));
      },
      ...Object.fromEntries(senders),
    },
    check: (_world, [taken]) => (taken === 2 ** messages.length - 1 ? '' : `the vCPU took ${taken} of the messages`),
  };
}

const FIXED = { vector: VECTOR, as: TAKEN };
const NMI = { mode: DELIVERY.NMI, as: 'NMI' };

/** vCPU 0 runs and does not end by itself; a message makes vCPU 1, at the same home, ready. */
const neighbour: Scenario<MachineWorld> = {
  name: 'wake-neighbour-of-a-running-one',
  from: FROM,
  promise: 'ready bit v of row w: vCPU v, home on w, may have something to do.',
  world: () =>
    machine({
      workers: [
        {
          0: function* (thread) {
            yield READY;
            for (;;) yield thread.host.spin;
          },
          1: takes([TAKEN], { halts: true }),
        },
      ],
    }),
  timeLimits: 'expire', // the timer that ends vCPU 0's slice
  threads: {
    'worker 0': (world) => {
      const worker = world.worker(0);
      return () => worker.loop(TAKEN);
    },
    sender: (world) => {
      const thread = world.outsider();
      return () => thread.send(1, VECTOR);
    },
  },
  check: (_world, [taken]) => (taken === 1 ? '' : 'vCPU 1 did not take its interrupt'),
};

/** The same, where vCPU 0 runs without end: vCPU 1 has been halted all the time, so no slice was ever begun. */
const lateNeighbour: Scenario<MachineWorld> = {
  ...neighbour,
  name: 'wake-neighbour-of-one-without-end',
  world: () => {
    const made = neighbour.world();
    const { words } = made.world.shared;
    Atomics.and(words, made.world.shared.readyRow(0), ~(1 << 1));
    return made;
  },
};

/** Two halted vCPUs of one worker, a sender each. */
const siblings: Scenario<MachineWorld> = {
  name: 'wake-two-of-one-worker',
  from: FROM,
  promise: 'Senders set it (or), the owner clears it and then looks at `request` once more.',
  world: () => {
    const guest: Guest = function* (thread, vcpu) {
      while (!vcpu.taken.includes(TAKEN)) yield HLT;
      yield () => {
        if (Atomics.add(thread.own, 0, 1) === 1) thread.stop();
        return HLT;
      };
      for (;;) yield HLT;
    };
    return machine({ workers: [{ 0: guest, 1: guest }], words: ['vCPUs that took theirs'] });
  },
  threads: {
    'worker 0': (world) => {
      const worker = world.worker(0);
      return () => worker.loop();
    },
    'sender to vCPU 0': (world) => {
      const thread = world.outsider();
      return () => thread.send(0, VECTOR);
    },
    'sender to vCPU 1': (world) => {
      const thread = world.outsider();
      return () => thread.send(1, VECTOR);
    },
  },
  check: () => '', // it ends when both have taken theirs
};

/** vCPU 0 sends to vCPU 1 and waits for its answer; both on workers of their own, both halted. */
const pingPong: Scenario<MachineWorld> = {
  name: 'wake-each-other',
  from: FROM,
  promise: BOTH_PUBLISH,
  world: () =>
    machine({
      workers: [
        {
          0: function* (thread, vcpu) {
            yield () => {
              thread.send(1, VECTOR);
              return HLT;
            };
            while (!vcpu.taken.includes('0x52')) yield HLT;
            yield thread.end;
          },
        },
        {
          1: function* (thread, vcpu) {
            while (!vcpu.taken.includes(TAKEN)) yield HLT;
            yield () => {
              thread.send(0, OTHER_VECTOR);
              return READY;
            };
            yield thread.end;
          },
        },
      ],
    }),
  threads: {
    'worker 0': (world) => {
      const worker = world.worker(0);
      return () => worker.loop('0x52');
    },
    'worker 1': (world) => {
      const worker = world.worker(1);
      return () => worker.loop(TAKEN);
    },
  },
  check: (_world, [first, second]) => (first === 1 && second === 1 ? '' : 'an IPI was not taken'),
};

export const WAKE_SCENARIOS: readonly AnyScenario[] = [
  one('halted-by-interrupt', takes([TAKEN], { halts: true }), [FIXED]),
  one('running-by-interrupt', takes([TAKEN], { halts: false }), [FIXED]),
  one('halted-by-nmi', takes(['NMI'], { halts: true }), [NMI]),
  one('running-by-nmi', takes(['NMI'], { halts: false }), [NMI]),
  one('halted-by-two', takes([TAKEN, '0x52'], { halts: true }), [FIXED, { vector: OTHER_VECTOR, as: '0x52' }]),
  one('running-by-interrupt-and-nmi', takes([TAKEN, 'NMI'], { halts: false }), [FIXED, NMI]),
  neighbour,
  lateNeighbour,
  siblings,
  pingPong,
];
