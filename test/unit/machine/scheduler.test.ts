/** A worker's loop: whose turn it is, time slices, timers, sleep, stop and pause. Time is the script's. */
import { describe, expect, test } from 'vitest';
import { ExitReason } from '../../../src/kvm/constants.ts';
import { type ScriptedStep, SPIN } from '../../../src/machine/loop/scripted-vcpu.ts';
import { Attention, WorkerWord } from '../../../src/machine/shared/shared.ts';
import { EINTR, HLT, LoopRig, LVT_TIMER, meanwhile, NOTHING, TMICT, TPR, WORKER } from './loop-rig.ts';

const NEVER = Number.POSITIVE_INFINITY;
const SLICE = 1_000_000;
const ONESHOT = 0x40;

/** A script that notes its turns and then spins for ever. */
function* spinner(name: string, turns: string[]): Iterable<ScriptedStep> {
  for (;;) {
    yield () => {
      turns.push(name);
      return SPIN;
    };
  }
}

/** Steps, and the end of the run once `turns` are that many. */
function spinners(count: number, turns: string[], limit: number): { rig: LoopRig } {
  const rig: LoopRig = new LoopRig(
    Array.from({ length: count }, (_, index) => {
      const script = function* (): Iterable<ScriptedStep> {
        for (const step of spinner(String(index), turns)) yield turns.length >= limit ? rig.end : step;
      };
      return script();
    }),
  );
  return { rig };
}

function timerIn(rig: LoopRig, nanos: number, cpu = 0): void {
  const apic = rig.cpus[cpu].apic;
  apic?.writeMmio(0x3e0, 4, 0xb); // divide by 1: a count a nanosecond
  apic?.writeMmio(LVT_TIMER, 4, ONESHOT);
  apic?.writeMmio(TMICT, 4, nanos);
}

test('has the vCPUs that were added, in their order', () => {
  const rig = new LoopRig([[NOTHING], [NOTHING], [NOTHING]]);
  expect(rig.scheduler.cpus.map(({ vcpuIndex }) => vcpuIndex)).toEqual([0, 1, 2]);
});

describe('whose turn it is', () => {
  test('one vCPU alone runs without a slice: no timer is set', () => {
    const rig: LoopRig = new LoopRig([[NOTHING, () => rig.end]]);
    rig.loop();
    expect(rig.host.armed).toBe(NEVER);
    expect(rig.host.now).toBe(0);
  });

  test('of three that spin, each runs for a slice, in turn', () => {
    const turns: string[] = [];
    const { rig } = spinners(3, turns, 7);
    rig.loop();
    expect(turns).toEqual(['1', '2', '0', '1', '2', '0', '1']);
    expect(rig.host.now).toBe(7 * SLICE);
  });

  test('one that halts leaves the rest of its slice to the others', () => {
    const turns: string[] = [];
    const rig: LoopRig = new LoopRig([
      [meanwhile(() => turns.push('0'), HLT)],
      [
        meanwhile(() => turns.push('1'), SPIN),
        meanwhile(
          () => turns.push('1 again'),
          () => rig.end,
        ),
      ],
    ]);
    rig.loop();
    expect(turns).toEqual(['1', '0', '1 again']);
  });

  test('a slice that ends while nobody else is ready any more is followed by no other', () => {
    const kick = (): void => {
      rig.host.kicked = true;
    };
    const rig: LoopRig = new LoopRig([[HLT], [SPIN, SPIN, meanwhile(kick, SPIN), () => rig.end]]);
    rig.loop();
    // Both first turns were sliced; the timer of vCPU 0's still rings after it halted, and is the last.
    expect(rig.host.now).toBe(2 * SLICE);
  });

  test('a slice ends when it was to, however often something else became ready in it', () => {
    const wakeAnother = meanwhile(() => {
      rig.host.advance(300_000);
      rig.scheduler.review(rig.cpus[0]);
    }, NOTHING);
    const rig: LoopRig = new LoopRig([[() => rig.end], [wakeAnother, wakeAnother, SPIN]]);
    rig.loop();
    expect(rig.host.now).toBe(SLICE);
  });

  test('a vCPU that is woken on its own thread shares the time of the one that runs from then on', () => {
    const rig: LoopRig = new LoopRig([
      [HLT, () => rig.end],
      [SPIN, meanwhile(() => rig.send(0x31, { to: 0 }), NOTHING), SPIN, SPIN],
    ]);
    rig.loop();
    expect(rig.vcpus[0].taken).toEqual(['0x31']);
    expect(rig.host.now).toBe(2 * SLICE);
  });

  test('vCPUs in several words of ready bits all get their turn', () => {
    const turns: string[] = [];
    const { rig } = spinners(40, turns, 80);
    rig.loop();
    expect(turns.slice(0, 40)).toEqual([...Array.from({ length: 39 }, (_, i) => String(i + 1)), '0']);
    expect(turns.slice(40)).toEqual(turns.slice(0, 40));
  });

  test('a ready bit of a vCPU that is not there is cleared, and harms nobody', () => {
    const rig: LoopRig = new LoopRig([[NOTHING, () => rig.end]]);
    const row = rig.shared.readyRow(WORKER);
    Atomics.or(rig.shared.words, row + 1, 1 << 9);
    rig.host.whileAsleep.push(() => {});
    Atomics.and(rig.shared.words, row, 0);
    rig.scheduler.review(rig.cpus[0]);
    rig.loop();
    expect(Atomics.load(rig.shared.words, row + 1)).toBe(0);
  });

  test('the first entry of each vCPU is told, once', () => {
    const rig: LoopRig = new LoopRig([
      [NOTHING, HLT],
      [NOTHING, HLT],
    ]);
    rig.host.whileAsleep.push(() => rig.stop());
    rig.loop();
    expect(rig.said.filter((what) => what.startsWith('first'))).toEqual(['first run 1', 'first run 0']);
  });
});

describe('start and hold', () => {
  test('before start nothing runs; control messages are looked at', () => {
    const rig: LoopRig = new LoopRig([[() => rig.end]]);
    rig.scheduler.hold();
    rig.onControl = () => rig.scheduler.start();
    rig.host.whileAsleep.push(() => {
      expect(rig.vcpus[0].runs).toBe(0);
      Atomics.or(rig.shared.words, rig.shared.worker(WORKER, WorkerWord.attention), Attention.control);
    });
    rig.loop();
    expect(rig.vcpus[0].runs).toBe(1);
  });

  test('hold ends a turn at once, and review makes it ready again', () => {
    const rig: LoopRig = new LoopRig([[meanwhile(() => rig.scheduler.hold(), NOTHING), () => rig.end]]);
    rig.host.whileAsleep.push(() => {
      expect(rig.vcpus[0].runs).toBe(1);
      rig.scheduler.start();
      rig.scheduler.review(rig.cpus[0]);
    });
    rig.loop();
    expect(rig.vcpus[0].runs).toBe(2);
  });
});

test('a vCPU that main adds while another runs without a slice gets its share', () => {
  const rig: LoopRig = new LoopRig([[meanwhile(() => signal(), NOTHING), SPIN, SPIN], [() => rig.end]]);
  const signal = (): void => {
    Atomics.or(rig.shared.words, rig.shared.worker(WORKER, WorkerWord.attention), Attention.control);
  };
  const row = rig.shared.readyRow(WORKER);
  Atomics.and(rig.shared.words, row, 1); // as if vCPU 1 did not exist yet
  rig.onControl = () => rig.scheduler.review(rig.cpus[1]);
  rig.loop();
  expect(rig.vcpus[1].runs).toBe(1);
  expect(rig.host.now).toBe(SLICE);
});

describe('timers', () => {
  test('a vCPU that runs is interrupted for its timer, in time', () => {
    const rig: LoopRig = new LoopRig([[NOTHING, SPIN, () => rig.end]]);
    timerIn(rig, 5000);
    rig.scheduler.review(rig.cpus[0]);
    rig.loop();
    expect(rig.host.now).toBe(5000);
    expect(rig.vcpus[0].taken).toEqual(['0x40']);
  });

  test('a timer that ran out before an exit comes before what the exit does', () => {
    const rig: LoopRig = new LoopRig([
      [
        NOTHING,
        () => {
          rig.host.now = 6000; // no kick arrived yet
          return { exitReason: ExitReason.MMIO, ifFlag: true, mmioAddress: 0xfee0_0390, mmioData: [9, 9, 9, 9] };
        },
        () => rig.end,
      ],
    ]);
    timerIn(rig, 5000);
    rig.scheduler.review(rig.cpus[0]);
    rig.loop();
    expect(rig.vcpus[0].taken).toEqual(['0x40']);
  });

  test('a timer that a write sets is armed before the next entry', () => {
    const rig: LoopRig = new LoopRig([
      [
        {
          exitReason: ExitReason.MMIO,
          ifFlag: true,
          mmioAddress: 0xfee0_0380,
          mmioIsWrite: true,
          mmioData: [0x88, 0x13, 0, 0],
        },
        SPIN,
        () => rig.end,
      ],
    ]);
    rig.cpus[0].apic?.writeMmio(0x3e0, 4, 0xb);
    rig.cpus[0].apic?.writeMmio(LVT_TIMER, 4, ONESHOT);
    rig.loop();
    expect(rig.host.now).toBe(5000);
  });

  test('a halted vCPU is woken by its timer: the thread sleeps for just so long', () => {
    const rig: LoopRig = new LoopRig([[HLT, () => rig.end]]);
    timerIn(rig, 3_000_000);
    rig.loop();
    expect(rig.host.sleeps).toEqual([3]);
    expect(rig.vcpus[0].taken).toEqual(['0x40']);
  });

  test('the timer of a halted vCPU ends the turn of another', () => {
    const rig: LoopRig = new LoopRig([
      [HLT, () => rig.end],
      [SPIN, SPIN, SPIN, SPIN],
    ]);
    timerIn(rig, 3_000_000);
    rig.loop();
    expect(rig.vcpus[0].taken).toEqual(['0x40']);
    expect(rig.host.now).toBe(4_000_000); // its timer at 3 ms, then the slice that began there
  });

  test('a device s deadline ends a turn, and a sleep', () => {
    const rig: LoopRig = new LoopRig([[SPIN, HLT]]);
    rig.deviceDeadlines = [2_000_000, 5_000_000];
    rig.host.whileAsleep.push(
      () => {},
      () => rig.stop(),
    );
    rig.loop();
    expect(rig.said.filter((what) => what.startsWith('devices'))).toEqual(['devices at 2000000', 'devices at 5000000']);
  });

  test('an earlier deadline replaces a later one; a later one does not replace it', () => {
    const armed: number[] = [];
    const next = (deadline: number): ScriptedStep =>
      meanwhile(() => {
        armed.push(rig.host.armed);
        rig.deviceDeadlines = [deadline];
      }, NOTHING);
    const rig: LoopRig = new LoopRig([[next(3000), next(9000), next(9000), () => rig.end]]);
    rig.deviceDeadlines = [7000];
    rig.loop();
    expect(armed).toEqual([7000, 3000, 3000]);
    expect(rig.host.armed).toBe(NEVER); // disarmed at the end
  });

  test('after the timer rang, the next deadline is set anew', () => {
    const rig: LoopRig = new LoopRig([[SPIN, SPIN, () => rig.end]]);
    rig.deviceDeadlines = [7000, 12_000];
    rig.loop();
    expect(rig.host.now).toBe(12_000);
    expect(rig.vcpus[0].runs).toBe(3);
  });

  test('a vector that waits for TPR only: KVM_RUN ends after a quarter of a millisecond, to look again', () => {
    const rig: LoopRig = new LoopRig([
      [
        { ...NOTHING, cr8: 8 },
        meanwhile(() => rig.send(0x31), { ...NOTHING, cr8: 8 }),
        SPIN,
        { ...NOTHING, cr8: 0 },
        () => rig.end,
      ],
    ]);
    rig.cpus[0].apic?.writeMmio(TPR, 4, 0x80);
    rig.loop();
    expect(rig.host.now).toBe(250_000);
    expect(rig.vcpus[0].taken).toEqual(['0x31']);
  });
});

describe('sleep', () => {
  test('with nothing ready and no deadline: for ever, until somebody rings; what was held back is handed over first', () => {
    const rig: LoopRig = new LoopRig([[HLT, () => rig.end]]);
    const guest = rig.shared.worker(WORKER, WorkerWord.guest);
    rig.host.whileAsleep.push(() => {
      expect(rig.said.at(-1)).toBe('idle');
      expect(Atomics.load(rig.shared.words, guest)).toBe(-1);
      rig.send(0x31);
    });
    rig.loop();
    expect(rig.host.sleeps).toEqual([NEVER]);
    expect(rig.vcpus[0].taken).toEqual(['0x31']);
  });

  test('who is awake again says so, before it does anything', () => {
    const rig: LoopRig = new LoopRig([[HLT]]);
    const guest = rig.shared.worker(WORKER, WorkerWord.guest);
    rig.host.whileAsleep.push(() => {
      Atomics.or(rig.shared.words, rig.shared.worker(WORKER, WorkerWord.attention), Attention.control);
    });
    let seen = -1;
    rig.onControl = () => {
      seen = Atomics.load(rig.shared.words, guest);
      rig.stop();
    };
    rig.loop();
    expect(seen).toBe(0);
  });

  test('a deadline that has passed is no reason to sleep', () => {
    const rig: LoopRig = new LoopRig([
      [
        meanwhile(() => {
          rig.deviceDeadlines = [100];
          rig.host.now = 100;
        }, HLT),
      ],
    ]);
    rig.host.whileAsleep.push(() => rig.stop());
    rig.loop();
    expect(rig.said).toContain('devices at 100');
    expect(rig.host.sleeps).toEqual([NEVER]);
  });

  test('in the guest the guest word names the vCPU and its slice; outside it says none', () => {
    const seen: number[] = [];
    const rig: LoopRig = new LoopRig([
      [HLT],
      [
        meanwhile(() => seen.push(rig.shared.words[guest]), SPIN),
        meanwhile(
          () => seen.push(rig.shared.words[guest]),
          () => rig.end,
        ),
      ],
    ]);
    const guest = rig.shared.worker(WORKER, WorkerWord.guest);
    rig.loop();
    expect(seen).toEqual([(2 << 1) | 1, 2 << 1]); // vCPU 1 with a slice, then without
    expect(rig.shared.words[guest]).toBe(0);
  });
});

describe('attention', () => {
  const raise = (rig: LoopRig, bits: number): void =>
    void Atomics.or(rig.shared.words, rig.shared.worker(WORKER, WorkerWord.attention), bits);

  test('control messages and mailboxes are served between two runs, each once', () => {
    const rig: LoopRig = new LoopRig([
      [meanwhile(() => raise(rig, Attention.control | Attention.mailbox), NOTHING), NOTHING, () => rig.end],
    ]);
    rig.loop();
    expect(rig.said.filter((what) => what === 'control' || what === 'mailboxes')).toEqual(['control', 'mailboxes']);
  });

  test('stop ends the loop before the next entry, stays set, and disarms the timer', () => {
    const rig: LoopRig = new LoopRig([[meanwhile(() => rig.stop(), NOTHING), NOTHING]]);
    rig.deviceDeadlines = [7000];
    rig.loop();
    expect(rig.vcpus[0].runs).toBe(1);
    const attention = Atomics.load(rig.shared.words, rig.shared.worker(WORKER, WorkerWord.attention));
    expect(attention & Attention.stop).toBe(Attention.stop);
    expect(rig.host.armed).toBe(NEVER);
  });

  test('stop ends a sleep', () => {
    const rig: LoopRig = new LoopRig([[HLT]]);
    rig.host.whileAsleep.push(() => rig.stop());
    rig.loop();
    expect(rig.vcpus[0].runs).toBe(1);
  });

  test('pause: the thread stays out of KVM_RUN while the word is set, and goes on when it is cleared', () => {
    const rig: LoopRig = new LoopRig([[meanwhile(() => raise(rig, Attention.pause), NOTHING), () => rig.end]]);
    const pause = rig.shared.worker(WORKER, WorkerWord.pause);
    Atomics.store(rig.shared.words, pause, 1);
    const runs: number[] = [];
    rig.host.whileAsleep.push(
      () => void runs.push(rig.vcpus[0].runs),
      () => {
        runs.push(rig.vcpus[0].runs);
        Atomics.store(rig.shared.words, pause, 0);
      },
    );
    rig.loop();
    expect(runs).toEqual([1, 1]);
    expect(rig.vcpus[0].runs).toBe(2);
  });

  test('pause that is over when it is looked at costs nothing', () => {
    const rig: LoopRig = new LoopRig([[meanwhile(() => raise(rig, Attention.pause), NOTHING), () => rig.end]]);
    rig.loop();
    expect(rig.host.sleeps).toEqual([]);
  });
});

describe('KVM_RUN', () => {
  test('EAGAIN is tried again', () => {
    const rig: LoopRig = new LoopRig([[-11, NOTHING, () => rig.end]]);
    rig.loop();
    expect(rig.vcpus[0].runs).toBe(3);
    expect(rig.said).not.toContain('end');
  });

  test('any other error ends the machine, with its name', () => {
    const rig: LoopRig = new LoopRig([[-5]]);
    rig.loop();
    expect(rig.said.at(-1)).toMatch(/^end internal-error 10 vCPU with APIC ID 0x0: KVM_RUN: EIO at rip 0xfff0/);
  });

  test('EINTR without a reason changes nothing', () => {
    const rig: LoopRig = new LoopRig([[-EINTR, -EINTR, NOTHING, () => rig.end]]);
    rig.loop();
    expect(rig.vcpus[0].runs).toBe(4);
    expect(rig.host.now).toBe(0);
  });
});
