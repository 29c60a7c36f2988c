/** Scenarios of the ways between threads that are no interrupts: mailbox, outbox, the PICs' line. */
import type { MessagePort } from 'node:worker_threads';
import { REG } from '../../apic/index.ts';
import { ExitReason } from '../../kvm/constants.ts';
import type { ScriptedExit } from '../../machine/loop/scripted-vcpu.ts';
import { messageTaken, Outbox } from '../../machine/shared/outbox.ts';
import { Attention, MachineWord, WorkerWord } from '../../machine/shared/shared.ts';
import { signalWorker, stopWorker, wakeVcpu } from '../../machine/shared/signals.ts';
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
const MAILBOX = 'a device request of this worker to worker 0 (mailbox.ts): owner fills, worker 0 answers';
const BACKLOG = 'backlog owner: add; main: sub owner sleeps on it while main is behind (outbox.ts)';
const PIC = 'picInterrupt worker 0: store vCPUs whose LINT0 takes ExtINT, before they enter the guest';
/** Wide addresses and values, which take two words each. */
const ADDRESS = 0xfe_dcba_9000;
const VALUE = 0x7_8765_4321;
const WRITTEN = 0x9_1234_5678;
const PORT = 0x60;
const ALL_ONES = 0xff;

const idle: Guest = function* () {
  for (;;) yield HLT;
};
const busy: Guest = function* (thread) {
  for (;;) yield thread.host.spin;
};

/** Worker 0 with its devices, which keep what is written to them, until it is stopped. */
const deviceWorker = (world: MachineWorld) => {
  const worker = world.worker(0);
  const kept = new Map<number, number>();
  worker.onWrite = (address, value) => void kept.set(address, value);
  worker.onRead = (address) => kept.get(address) ?? VALUE + address - ADDRESS;
  return () => worker.loop();
};

/** Other workers read a register each; one that is alone writes to it first. The last of them stops worker 0. */
const requester =
  (number: number, all: number) =>
  (world: MachineWorld): (() => number) => {
    const worker = world.worker(number);
    return () => {
      if (all === 1) worker.devices.write('mmio', ADDRESS + number, 4, WRITTEN);
      const answer = worker.devices.read('mmio', ADDRESS + number, 4);
      if (Atomics.add(worker.own, 0, 1) === all - 1) signalWorker(worker.shared, 0, Attention.stop);
      return answer;
    };
  };

function mailbox(name: string, guest: Guest, requesters: number): Scenario<MachineWorld> {
  const numbers = Array.from({ length: requesters }, (_, index) => index + 1);
  return {
    name: `mailbox-to-${name}`,
    from: FROM,
    promise: MAILBOX,
    world: () => machine({ workers: [{ 0: guest }, ...numbers.map(() => ({}))], words: ['answers'] }),
    threads: {
      'worker 0': deviceWorker,
      ...Object.fromEntries(numbers.map((number) => [`worker ${number}`, requester(number, requesters)])),
    },
    check: (_world, [, ...answers]) => {
      const right = answers.map((_, index) => (requesters === 1 ? WRITTEN : VALUE + index + 1));
      const wrong = answers.findIndex((answer, index) => answer !== right[index]);
      return wrong < 0 ? '' : `worker ${wrong + 1} reads ${answers[wrong]}, and should ${right[wrong]}`;
    },
  };
}

/** What a worker does first: nothing; or it runs until it is stopped, and has the rest to do on its way out. */
type First = (worker: WorkerThread) => void;
const atOnce: First = () => {};
const afterItsLoop: First = (worker) => void worker.loop();

/** Main stops a worker that waits for worker 0, which will never answer. */
const mailboxStop = (name: string, first: First): Scenario<MachineWorld> => ({
  name: `mailbox-${name}`,
  from: FROM,
  promise: MAILBOX,
  world: () => machine({ workers: [{}, {}] }),
  threads: {
    'worker 1': (world) => {
      const worker = world.worker(1);
      return () => {
        first(worker);
        return worker.devices.read('pio', PORT, 1) & ALL_ONES;
      };
    },
    main: (world) => {
      const main = world.outsider();
      return () => stopWorker(main.shared, 1);
    },
  },
  timeLimits: 'expire', // stop and sleep may cross: the limit is there for that
  check: (_world, [answer]) => (answer === ALL_ONES ? '' : `a stopped worker reads ${answer}`),
});

/** A port whose messages are counted in word 0. */
function outbox(thread: MachineThread, worker: number): Outbox {
  const port = { postMessage: () => void Atomics.add(thread.own, 0, 1) } as unknown as MessagePort;
  return new Outbox(thread.shared, worker, port, LIMIT);
}

const LIMIT = 32;

/** Main is as far behind as it may be. */
const behind = (world: MachineWorld): void => {
  Atomics.store(world.shared.words, world.shared.worker(0, WorkerWord.backlog), LIMIT);
};

const backlog: Scenario<MachineWorld> = {
  name: 'outbox-full',
  from: FROM,
  promise: BACKLOG,
  world: () => machine({ workers: [{}], words: ['messages posted'], prepare: behind }),
  threads: {
    'worker 0': (world) => {
      const worker = world.worker(0);
      const out = outbox(worker, 0);
      return () => {
        out.send({ type: 'reply', reply: 1 });
        out.send({ type: 'reply', reply: 2 });
      };
    },
    main: (world) => {
      const main = world.outsider();
      return () => {
        messageTaken(main.shared, 0);
        messageTaken(main.shared, 0);
      };
    },
  },
  check: (world) => {
    const left = Atomics.load(world.shared.words, world.shared.worker(0, WorkerWord.backlog));
    const posted = Atomics.load(world.own(), 0);
    return posted === 2 && left === LIMIT ? '' : `${posted} of 2 messages were posted, the backlog says ${left}`;
  },
};

const outboxStop = (name: string, first: First): Scenario<MachineWorld> => ({
  name: `outbox-${name}`,
  from: FROM,
  promise: BACKLOG,
  world: () => machine({ workers: [{}], words: ['messages posted'], prepare: behind }),
  threads: {
    'worker 0': (world) => {
      const worker = world.worker(0);
      const out = outbox(worker, 0);
      return () => {
        first(worker);
        out.send({ type: 'reply', reply: 1 });
      };
    },
    main: (world) => {
      const main = world.outsider();
      return () => stopWorker(main.shared, 0);
    },
  },
  timeLimits: 'expire', // as above
  check: (world) => (Atomics.load(world.own(), 0) === 1 ? '' : 'a stopped worker does not say its last words'),
});

const PIC_VECTOR = 0x20;
const UNMASK: ScriptedExit = {
  ...READY,
  exitReason: ExitReason.MMIO,
  mmioAddress: 0xfee0_0000 + REG.LVT_LINT0,
  mmioIsWrite: true,
  mmioData: [0, 7, 0, 0], // ExtINT
};

/** The PICs raise their line while a vCPU unmasks LINT0, then halts. */
const pic: Scenario<MachineWorld> = {
  name: 'pic-while-lint0-is-unmasked',
  from: FROM,
  promise: PIC,
  world: () =>
    machine({
      workers: [
        {
          0: function* (thread, vcpu) {
            yield UNMASK;
            while (!vcpu.taken.includes('0x20')) yield HLT;
            yield thread.end;
          },
        },
      ],
    }),
  threads: {
    'worker 0': (world) => {
      const worker = world.worker(0);
      worker.onPic = () => {
        Atomics.store(worker.shared.words, MachineWord.picInterrupt, 0);
        return PIC_VECTOR;
      };
      return () => worker.loop('0x20');
    },
    devices: (world) => {
      const thread = world.outsider();
      return () => {
        Atomics.store(thread.shared.words, MachineWord.picInterrupt, 1);
        if (thread.system.apic(0).acceptsPic()) wakeVcpu(thread.shared, 0, thread.worker);
      };
    },
  },
  check: (_world, [taken]) => (taken === 1 ? '' : "the PICs' interrupt was not taken"),
};

export const DEVICE_SCENARIOS: readonly AnyScenario[] = [
  mailbox('a-worker-that-sleeps', idle, 1),
  mailbox('a-worker-in-a-guest', busy, 1),
  mailbox('a-worker-of-two', idle, 2),
  mailboxStop('stop', atOnce),
  mailboxStop('after-stop', afterItsLoop),
  backlog,
  outboxStop('stop', atOnce),
  outboxStop('after-stop', afterItsLoop),
  pic,
];
