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
import { ELSEWHERE, HLT, LINT0, LoopRig, NOTHING, WORKER } from './loop-rig.ts';

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

/** What may happen to a vCPU in the guest or asleep, from another thread. */
const MESSAGES: readonly [string, (rig: LoopRig) => void, string][] = [
  ['an interrupt', (rig) => rig.send(0x31), '0x31'],
  ['an NMI', (rig) => rig.send(0, { deliveryMode: 4 }), 'NMI'],
  [
    "the PICs' interrupt",
    (rig) => {
      Atomics.store(rig.otherShared.words, MachineWord.picInterrupt, 1);
      if (rig.otherSystem.apic(0).acceptsPic()) wakeVcpu(rig.otherShared, 0, ELSEWHERE);
    },
    '0x20',
  ],
];

/** vCPU 0 of a guest that runs a while, then `waits` for good; past the message it ends the run. */
function makeRig(waits: 'spin' | 'hlt', others: number): LoopRig {
  const taken = (): boolean => rig.vcpus[0].taken.length > 0;
  const script = function* () {
    yield NOTHING;
    yield { ...NOTHING, cr8: 3 }; // its TPR changes: it is unsettled
    yield { ...NOTHING, cr8: 0 };
    for (;;) yield () => (taken() ? rig.end : waits === 'spin' ? SPIN : HLT);
  };
  const rig: LoopRig = new LoopRig([script(), ...Array.from({ length: others }, () => [HLT])]);
  rig.system.apic(0).writeMmio(LINT0, 4, 0x700); // ExtINT
  rig.setPic(false);
  return rig;
}

describe.each(MESSAGES)('%s is never lost', (_name, send, expected) => {
  describe.each([
    ['spin', 0],
    ['spin', 1],
    ['hlt', 0],
    ['hlt', 1],
  ] as const)('by a guest that waits by %s, beside %i more', (waits, others) => {
    test('sent before any access of the owner', () => {
      let accesses = Number.POSITIVE_INFINITY;
      for (let at = 1; at <= accesses; at++) {
        const rig = makeRig(waits, others);
        let sent = false;
        let count = 0;
        const sendNow = (): void => {
          sent = true;
          send(rig);
        };
        // An owner that waits with nothing under way is given the message then, as one that came later still.
        rig.host.whileAsleep.push(() => sent || sendNow());
        watchAtomics((access) => {
          count = access;
          if (access === at && !sent) sendNow();
        });
        try {
          rig.loop();
        } catch (error) {
          globalThis.Atomics = realAtomics;
          if (sent) throw new Error(`sent before access ${at}: ${String(error)}`);
          accesses = count; // the owner got to where it waits: every access was tried
          break;
        }
        globalThis.Atomics = realAtomics;
        expect(rig.vcpus[0].taken, `sent before access ${at}`).toEqual([expected]);
        if (count < at) accesses = count;
      }
      expect(accesses).toBeGreaterThan(10);
    });

    test('the owner running before any access of the sender', () => {
      for (let at = 1; ; at++) {
        const rig = makeRig(waits, others);
        let woken = false;
        let reached = false;
        const run = (): void => {
          try {
            rig.loop();
          } catch {
            // It waits: in the guest, or asleep.
          }
        };
        let inside = false;
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
        send(rig);
        globalThis.Atomics = realAtomics;
        const waited = word(rig, 'guest') !== GUEST_NONE;
        if (waited)
          expect(woken || rig.host.kicked, `the owner waits since access ${at}, and nobody wakes it`).toBe(true);
        run();
        expect(rig.vcpus[0].taken, `the owner ran before access ${at}`).toEqual([expected]);
        if (!reached) {
          expect(at).toBeGreaterThan(3);
          break;
        }
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
