/**
 * Who wakes whom (signals.ts), and that no wake-up is lost (shared.ts says why). The second by trying: a sender, in one piece,
 * before each atomic access of the owner; and an owner, up to where it waits, before each atomic access of the sender.
 */
import { afterEach, describe, expect, test } from 'vitest';
import { SPIN } from '../../../src/machine/loop/scripted-vcpu.ts';
import {
  Attention,
  GUEST_IDLE,
  GUEST_NONE,
  guestCode,
  MachineWord,
  SharedState,
  WorkerWord,
} from '../../../src/machine/shared/shared.ts';
import { NOT_A_WORKER, signalWorker, stopWorker, wakeVcpu } from '../../../src/machine/shared/signals.ts';
import { ELSEWHERE, HLT, LINT0, LoopRig, meanwhile, NOTHING, WORKER } from './loop-rig.ts';

const MODE_3 = { destination: 0, deliveryMode: 3, vector: 0 };

const realAtomics = globalThis.Atomics;

afterEach(() => {
  globalThis.Atomics = realAtomics;
});

/** Calls `before` ahead of each atomic access, with its number from 1. `notified` tells of Atomics.notify. */
function watchAtomics(before: (access: number) => void, notified: (index: number) => void = () => {}): void {
  let access = 0;
  globalThis.Atomics = new Proxy(realAtomics, {
    get: (target, name: keyof Atomics) => {
      const method = target[name] as (...parameters: unknown[]) => unknown;
      if (typeof method !== 'function') return method;
      return (...parameters: unknown[]) => {
        before(++access);
        if (name === 'notify') notified(parameters[1] as number);
        return method.apply(target, parameters);
      };
    },
  });
}

const word = (rig: { shared: SharedState }, name: keyof typeof WorkerWord, worker = WORKER): number =>
  realAtomics.load(rig.shared.words, rig.shared.worker(worker, WorkerWord[name]));

describe('wakeVcpu', () => {
  /** vCPU 1 lives on WORKER; the sender is elsewhere. */
  function wake(guest: number, { ready = false, self = ELSEWHERE, vcpuIndex = 1 } = {}) {
    const rig = new LoopRig([]);
    const { words } = rig.shared;
    const notified: number[] = [];
    rig.shared.setHome(vcpuIndex, WORKER);
    Atomics.store(words, rig.shared.worker(WORKER, WorkerWord.guest), guest);
    if (ready) Atomics.or(words, rig.shared.readyRow(WORKER), 1 << vcpuIndex);
    watchAtomics(
      () => {},
      (index) => notified.push(index),
    );
    wakeVcpu(rig.otherShared, vcpuIndex, self);
    globalThis.Atomics = realAtomics;
    return {
      request: words[rig.shared.request(vcpuIndex)],
      isReady: (words[rig.shared.readyRow(WORKER) + (vcpuIndex >>> 5)] >>> (vcpuIndex & 31)) & 1,
      attention: word(rig, 'attention'),
      kicks: rig.otherHost.kicks,
      notified: notified.map((index) => index === rig.shared.worker(WORKER, WorkerWord.attention)),
    };
  }

  test.each([
    ['runs JavaScript', GUEST_NONE, []],
    ['runs another vCPU, with a slice that will end', guestCode(0, true), []],
    ['runs another vCPU, without', guestCode(0, false), [100]],
    ['runs this vCPU, without a slice', guestCode(1, false), [100]],
    ['runs this vCPU, with one', guestCode(1, true), [100]],
  ])('its worker %s: request, ready bit and attention are set, kicks %#', (_what, guest, kicks) => {
    expect(wake(guest)).toEqual({ request: 1, isReady: 1, attention: Attention.reschedule, kicks, notified: [] });
  });

  test('its worker sleeps: notified, not kicked', () => {
    expect(wake(GUEST_IDLE)).toMatchObject({ request: 1, isReady: 1, kicks: [], notified: [true] });
  });

  test('it is ready already: no attention, and another vCPU that runs is left alone', () => {
    expect(wake(guestCode(0, false), { ready: true })).toMatchObject({ request: 1, attention: 0, kicks: [] });
    expect(wake(guestCode(1, true), { ready: true })).toMatchObject({ request: 1, attention: 0, kicks: [100] });
  });

  test('by its own worker: nobody is kicked, but the loop looks round', () => {
    expect(wake(guestCode(0, false), { self: WORKER })).toMatchObject({
      request: 1,
      isReady: 1,
      attention: Attention.reschedule,
      kicks: [],
    });
  });

  test('by main', () => expect(wake(guestCode(1, false), { self: NOT_A_WORKER }).kicks).toEqual([100]));

  test('a vCPU beyond the first ready word', () => {
    expect(wake(guestCode(0, false), { vcpuIndex: 40 })).toMatchObject({ request: 1, isReady: 1, kicks: [100] });
  });
});

describe('signalWorker', () => {
  function signal(guest: number, bits: number) {
    const rig = new LoopRig([]);
    const notified: number[] = [];
    Atomics.store(rig.shared.words, rig.shared.worker(WORKER, WorkerWord.guest), guest);
    Atomics.store(rig.shared.words, rig.shared.worker(WORKER, WorkerWord.attention), Attention.reschedule);
    watchAtomics(
      () => {},
      (index) => notified.push(index - rig.shared.worker(WORKER, 0)),
    );
    signalWorker(rig.otherShared, WORKER, bits);
    return { attention: word(rig, 'attention'), kicks: rig.otherHost.kicks, notified };
  }

  test.each([
    ['in JavaScript', GUEST_NONE, [], []],
    ['asleep', GUEST_IDLE, [], [WorkerWord.attention]],
    ['in the guest', guestCode(5, false), [100], []],
    ['in the guest with a slice', guestCode(5, true), [100], []],
  ])('a worker %s', (_what, guest, kicks, notified) => {
    const attention = Attention.reschedule | Attention.mailbox;
    expect(signal(guest, Attention.mailbox)).toEqual({ attention, kicks, notified });
  });

  test('stopWorker wakes it from whatever it sleeps on', () => {
    const rig = new LoopRig([]);
    const notified: number[] = [];
    watchAtomics(
      () => {},
      (index) => notified.push(index - rig.shared.worker(WORKER, 0)),
    );
    stopWorker(rig.otherShared, WORKER);
    expect(word(rig, 'attention')).toBe(Attention.stop);
    expect(notified).toEqual(expect.arrayContaining([WorkerWord.boxState, WorkerWord.backlog]));
  });
});

/** What comes from another thread, and whether it got there. */
interface Message {
  readonly send: (rig: LoopRig) => void;
  readonly arrived: (rig: LoopRig) => boolean;
}

const tookInterrupt =
  (cpu: number, what: string) =>
  ({ vcpus }: LoopRig): boolean =>
    vcpus[cpu].taken.includes(what);

const MESSAGES: readonly (readonly [string, Message])[] = [
  ['an interrupt', { send: (rig) => rig.send(0x31), arrived: tookInterrupt(0, '0x31') }],
  ['an NMI', { send: (rig) => rig.send(0, { deliveryMode: 4 }), arrived: tookInterrupt(0, 'NMI') }],
  ['an interrupt for another vCPU', { send: (rig) => rig.send(0x31, { to: 1 }), arrived: tookInterrupt(1, '0x31') }],
  [
    'a message from main',
    {
      send: (rig) => signalWorker(rig.otherShared, WORKER, Attention.control),
      arrived: ({ said }) => said.includes('control'),
    },
  ],
  [
    "the PICs' interrupt",
    {
      send: (rig) => {
        Atomics.store(rig.otherShared.words, MachineWord.picInterrupt, 1);
        if (rig.otherSystem.apic(0).acceptsPic()) wakeVcpu(rig.otherShared, 0, ELSEWHERE);
      },
      arrived: tookInterrupt(0, '0x20'),
    },
  ],
];

/** vCPU 0 runs a while, then `waits` for good; vCPU 1 halts. The run ends when the message has arrived. */
function makeRig(waits: 'spin' | 'hlt', { arrived }: Message): LoopRig {
  const first = function* () {
    yield NOTHING;
    yield { ...NOTHING, cr8: 3 }; // its TPR changes: it is unsettled
    yield { ...NOTHING, cr8: 0 };
    yield NOTHING; // and settled again
    yield meanwhile(() => rig.system.deliver(MODE_3), NOTHING); // woken by what is taken at once
    for (;;) yield () => (arrived(rig) ? rig.end : waits === 'spin' ? SPIN : HLT);
  };
  const second = function* () {
    for (;;) yield () => (arrived(rig) ? rig.end : HLT);
  };
  const rig: LoopRig = new LoopRig([first(), second()]);
  rig.system.apic(0).writeMmio(LINT0, 4, 0x700); // ExtINT
  rig.send(0x21); // something of a lower class is under way already
  rig.onControl = () => rig.stop();
  return rig;
}

describe.each(MESSAGES)('%s is never lost', (_name, message) => {
  describe.each(['spin', 'hlt'] as const)('by a guest that waits by %s', (waits) => {
    test('sent before any access of the owner', () => {
      let accesses = Number.POSITIVE_INFINITY;
      for (let at = 1; at <= accesses; at++) {
        const rig = makeRig(waits, message);
        let sent = false;
        let count = 0;
        watchAtomics((access) => {
          count = access;
          if (access !== at || sent) return;
          sent = true;
          message.send(rig);
        });
        try {
          rig.loop();
        } catch (error) {
          if (sent) throw new Error(`sent before access ${at}: ${String(error)}`);
          accesses = count; // the owner got to where it waits: every access was tried
          break;
        } finally {
          globalThis.Atomics = realAtomics;
        }
        expect(message.arrived(rig), `sent before access ${at}`).toBe(true);
      }
      expect(accesses).toBeGreaterThan(20);
    });

    test('the owner running before any access of the sender', () => {
      for (let at = 1, reached = true; reached; at++) {
        const rig = makeRig(waits, message);
        const run = (): void => {
          try {
            rig.loop();
          } catch {
            // It waits: in the guest, or asleep.
          }
        };
        let woken = false;
        let inside = false;
        reached = false;
        watchAtomics(
          (access) => {
            if (inside || access !== at) return;
            reached = true;
            inside = true;
            run();
            inside = false;
          },
          (index) => {
            woken ||= index === rig.shared.worker(WORKER, WorkerWord.attention);
          },
        );
        message.send(rig);
        globalThis.Atomics = realAtomics;
        if (word(rig, 'guest') !== GUEST_NONE) {
          expect(woken || rig.host.kicked, `the owner waits since access ${at}, and nobody wakes it`).toBe(true);
        }
        run();
        expect(message.arrived(rig), `the owner ran before access ${at}`).toBe(true);
      }
    });
  });
});

describe('the owner', () => {
  test('takes all attention bits at once, and none is lost', () => {
    const rig: LoopRig = new LoopRig([[NOTHING, NOTHING, () => rig.end]]);
    signalWorker(rig.otherShared, WORKER, Attention.control);
    signalWorker(rig.otherShared, WORKER, Attention.mailbox);
    rig.loop();
    expect(rig.said).toEqual(expect.arrayContaining(['control', 'mailboxes']));
    expect(word(rig, 'attention')).toBe(Attention.stop);
  });
});

test('memory of two threads is one: what one stores the other sees', () => {
  const { shared, otherShared } = new LoopRig([]);
  shared.setHome(3, 7);
  expect(otherShared.home(3)).toBe(7);
  expect(otherShared).toBeInstanceOf(SharedState);
});
