/** The APIC timer: three modes, divider, floor, masking (SDM vol. 3A, 12.5.4; KVM's lapic.c). Time is handed in. */
import { describe, expect, it } from 'vitest';
import { ApicSystem, type ApicSystemOptions, type LocalApic } from '../../../src/apic/index.ts';
import {
  IRR,
  LVT_TIMER,
  MASKED,
  rdmsr,
  read,
  SPIV,
  setRegister,
  stateWord,
  TDCR,
  TMCCT,
  TMICT,
  TSC_DEADLINE,
  vectors,
  write,
  wrmsr,
} from './helpers.ts';

const ONE_SHOT = 0;
const PERIODIC = 0x20000;
const DEADLINE = 0x40000;
const BY_1 = 0xb;
const V = 0x40;

interface Bench {
  readonly apic: LocalApic;
  now: number;
  tsc: bigint;
  /** Moves the clock and lets the timer know, as a run loop does. */
  at(nanos: number): void;
}

function bench(options: ApicSystemOptions = {}, lvt = ONE_SHOT | V, divide = BY_1): Bench {
  const made: Bench = {
    apic: undefined as unknown as LocalApic,
    now: 1_000_000,
    tsc: 5_000_000n,
    at(nanos) {
      this.now = nanos;
      if (this.apic.timerDeadlineNanos() <= nanos) this.apic.expireTimer(nanos);
    },
  };
  const system = new ApicSystem(options, { nowNanos: () => made.now, guestTsc: () => made.tsc });
  const apic = system.addApic(0);
  write(apic, SPIV, 0x1ff);
  write(apic, LVT_TIMER, lvt);
  write(apic, TDCR, divide);
  return Object.assign(made, { apic });
}

describe('one-shot', () => {
  it('fires once, at its time and not before', () => {
    const b = bench();
    write(b.apic, TMICT, 50_000);
    expect(b.apic.timerDeadlineNanos()).toBe(1_050_000);
    b.at(1_049_999);
    b.apic.expireTimer(1_049_999);
    expect(vectors(b.apic, IRR)).toEqual([]);
    b.at(1_050_000);
    expect(vectors(b.apic, IRR)).toEqual([V]);
    expect(b.apic.timerDeadlineNanos()).toBe(Number.POSITIVE_INFINITY);
    b.apic.acknowledge();
    b.at(1_200_000);
    expect(vectors(b.apic, IRR)).toEqual([]);
  });

  it('the current count falls from the initial count to 0 and stays there', () => {
    const b = bench();
    write(b.apic, TMICT, 1000);
    b.now += 1;
    expect(read(b.apic, TMCCT)).toBe(999);
    b.now += 998;
    expect(read(b.apic, TMCCT)).toBe(1);
    b.at(b.now + 1);
    expect(read(b.apic, TMCCT)).toBe(0);
    b.now += 500;
    expect(read(b.apic, TMCCT)).toBe(0);
    expect(read(b.apic, TMICT)).toBe(1000);
  });

  it.each([
    [0b0000, 2],
    [0b0001, 4],
    [0b0010, 8],
    [0b0011, 16],
    [0b1000, 32],
    [0b1001, 64],
    [0b1010, 128],
    [0b1011, 1],
  ])('TDCR %i divides by %i', (tdcr, divisor) => {
    const b = bench({}, V, tdcr);
    write(b.apic, TMICT, 1000);
    expect(b.apic.timerDeadlineNanos()).toBe(b.now + 1000 * divisor);
  });

  it('a bus cycle is 1 ns, or what the option says', () => {
    const b = bench({ busCycleNanos: 40 });
    write(b.apic, TMICT, 1000);
    expect(b.apic.timerDeadlineNanos()).toBe(b.now + 40_000);
  });

  it('writing 0 stops it; writing again starts over', () => {
    const b = bench();
    write(b.apic, TMICT, 1000);
    b.now += 500;
    write(b.apic, TMICT, 1000);
    expect(b.apic.timerDeadlineNanos()).toBe(b.now + 1000);
    write(b.apic, TMICT, 0);
    expect(b.apic.timerDeadlineNanos()).toBe(Number.POSITIVE_INFINITY);
  });

  it('a large count is unsigned', () => {
    const b = bench();
    write(b.apic, TMICT, 0xffffffff);
    expect(b.apic.timerDeadlineNanos()).toBe(b.now + 0xffffffff);
  });

  it('a new divider stretches what remains', () => {
    const b = bench();
    write(b.apic, TMICT, 1000);
    b.now += 400;
    write(b.apic, TDCR, 0); // by 2
    expect(b.apic.timerDeadlineNanos()).toBe(b.now + 1200);
    expect(read(b.apic, TMCCT)).toBe(600);
  });

  it('a new divider after the expiry fires it once more (KVM: it starts again with nothing left)', () => {
    const b = bench();
    write(b.apic, TMICT, 1000);
    b.at(b.now + 1000);
    b.apic.acknowledge();
    b.apic.eoi();
    write(b.apic, TDCR, 0);
    expect(b.apic.timerDeadlineNanos()).toBe(b.now);
    b.at(b.now);
    expect(vectors(b.apic, IRR)).toEqual([V]);
  });
});

describe('periodic', () => {
  it('fires every period', () => {
    const b = bench({}, PERIODIC | V);
    write(b.apic, TMICT, 300_000);
    for (let i = 1; i <= 3; i++) {
      b.at(1_000_000 + i * 300_000);
      expect(b.apic.acknowledge()).toBe(V);
      b.apic.eoi();
      expect(b.apic.timerDeadlineNanos()).toBe(1_000_000 + (i + 1) * 300_000);
    }
  });

  it('is never faster than 200 us', () => {
    const b = bench({}, PERIODIC | V);
    write(b.apic, TMICT, 1000);
    expect(b.apic.timerDeadlineNanos()).toBe(b.now + 200_000);
  });

  it('does not catch up with missed periods', () => {
    const b = bench({}, PERIODIC | V);
    write(b.apic, TMICT, 300_000);
    b.at(5_000_000);
    expect(b.apic.timerDeadlineNanos()).toBe(5_000_000);
    b.at(5_000_000);
    expect(b.apic.timerDeadlineNanos()).toBe(5_300_000);
  });
});

describe('mode changes', () => {
  it('one-shot to periodic and back keeps the initial count and does not restart', () => {
    const b = bench();
    write(b.apic, TMICT, 500_000);
    b.now += 100_000;
    write(b.apic, LVT_TIMER, PERIODIC | V);
    expect([read(b.apic, TMICT), read(b.apic, TMCCT)]).toEqual([500_000, 400_000]);
    expect(b.apic.timerDeadlineNanos()).toBe(1_500_000);
    write(b.apic, LVT_TIMER, ONE_SHOT | V);
    expect(read(b.apic, TMCCT)).toBe(400_000);
  });

  it('entering deadline mode clears the count and stops the timer; leaving it clears the deadline', () => {
    const b = bench();
    write(b.apic, TMICT, 1000);
    write(b.apic, LVT_TIMER, DEADLINE | V);
    expect([read(b.apic, TMICT), b.apic.timerDeadlineNanos()]).toEqual([0, Number.POSITIVE_INFINITY]);
    wrmsr(b.apic, TSC_DEADLINE, 6_000_000);
    write(b.apic, LVT_TIMER, ONE_SHOT | V);
    write(b.apic, LVT_TIMER, DEADLINE | V);
    expect(rdmsr(b.apic, TSC_DEADLINE)).toBe(0);
    expect(b.apic.timerDeadlineNanos()).toBe(Number.POSITIVE_INFINITY);
  });

  it('a deadline beyond 2^64 / 1,000,000 cycles wraps and comes early; not by the manual', () => {
    const deadline = 5_000_000n + 2n ** 64n / 1_000_000n + 7000n;
    const inNanos = (options: ApicSystemOptions): number => {
      const b = bench(options, DEADLINE | V);
      b.apic.writeMsr(TSC_DEADLINE, Number(deadline & 0xffffffffn), Number(deadline >> 32n));
      return b.apic.timerDeadlineNanos() - b.now;
    };
    expect(inNanos({})).toBeCloseTo(7000, -1);
    expect(inNanos({ behaviour: 'hardware' })).toBe(Number(deadline) - 5_000_000);
  });

  it('in deadline mode TMICT is not writable and TMCCT reads 0', () => {
    const b = bench({}, DEADLINE | V);
    write(b.apic, TMICT, 1000);
    expect([read(b.apic, TMICT), read(b.apic, TMCCT)]).toEqual([0, 0]);
  });
});

describe('TSC deadline', () => {
  it('fires when the TSC gets there, once, and reads 0 afterwards', () => {
    const b = bench({ tscKhz: 2_000_000 }, DEADLINE | V);
    wrmsr(b.apic, TSC_DEADLINE, 5_010_000);
    expect(rdmsr(b.apic, TSC_DEADLINE)).toBe(5_010_000);
    expect(b.apic.timerDeadlineNanos()).toBe(b.now + 5_000);
    b.at(b.now + 5_000);
    expect(vectors(b.apic, IRR)).toEqual([V]);
    expect(rdmsr(b.apic, TSC_DEADLINE)).toBe(0);
  });

  it('a deadline in the past fires at once', () => {
    const b = bench({}, DEADLINE | V);
    wrmsr(b.apic, TSC_DEADLINE, 1);
    expect(b.apic.timerDeadlineNanos()).toBe(b.now);
  });

  it('is 64 bits wide', () => {
    const b = bench({}, DEADLINE | V);
    b.tsc = 0x1_0000_0000_0000n;
    wrmsr(b.apic, TSC_DEADLINE, 100, 0x10000);
    expect(b.apic.timerDeadlineNanos()).toBe(b.now + 100);
  });

  it('writing 0 disarms', () => {
    const b = bench({}, DEADLINE | V);
    wrmsr(b.apic, TSC_DEADLINE, 6_000_000);
    wrmsr(b.apic, TSC_DEADLINE, 0);
    expect(b.apic.timerDeadlineNanos()).toBe(Number.POSITIVE_INFINITY);
  });

  it('outside deadline mode writes are ignored and reads are 0: never #GP', () => {
    const b = bench();
    expect(wrmsr(b.apic, TSC_DEADLINE, 6_000_000)).toBe('ok');
    expect(rdmsr(b.apic, TSC_DEADLINE)).toBe(0);
    write(b.apic, LVT_TIMER, DEADLINE | V);
    expect(rdmsr(b.apic, TSC_DEADLINE)).toBe(0);
  });
});

describe('an expiry while it cannot be delivered', () => {
  it('waits while the entry is masked, and comes with the unmasking (hardware would lose it)', () => {
    const b = bench({}, MASKED | V);
    write(b.apic, TMICT, 1000);
    b.at(b.now + 1000);
    expect([vectors(b.apic, IRR), b.apic.snapshot().pending.timer]).toEqual([[], true]);
    write(b.apic, LVT_TIMER, V);
    expect([vectors(b.apic, IRR), b.apic.snapshot().pending.timer]).toEqual([[V], false]);
  });

  it('is forgotten by a software disable', () => {
    const b = bench({}, MASKED | V);
    write(b.apic, TMICT, 1000);
    b.at(b.now + 1000);
    write(b.apic, SPIV, 0xff);
    write(b.apic, SPIV, 0x1ff);
    write(b.apic, LVT_TIMER, V);
    expect(vectors(b.apic, IRR)).toEqual([]);
  });

  it('is forgotten by a new initial count', () => {
    const b = bench({}, MASKED | V);
    write(b.apic, TMICT, 1000);
    b.at(b.now + 1000);
    write(b.apic, TMICT, 1000);
    write(b.apic, LVT_TIMER, V);
    expect(vectors(b.apic, IRR)).toEqual([]);
  });
});

describe('a restored timer', () => {
  it('goes on from the current count', () => {
    const b = bench();
    setRegister(b.apic, { [TMICT]: 1000, [TMCCT]: 300 });
    expect(b.apic.timerDeadlineNanos()).toBe(b.now + 300);
    expect(stateWord(b.apic, TMCCT)).toBe(300);
  });

  it('a one-shot without a current count has expired; a periodic one starts a period', () => {
    const b = bench();
    setRegister(b.apic, { [TMICT]: 1000, [TMCCT]: 0 });
    expect(b.apic.timerDeadlineNanos()).toBe(b.now);
    setRegister(b.apic, { [LVT_TIMER]: PERIODIC | V, [TMICT]: 300_000, [TMCCT]: 0 });
    expect(b.apic.timerDeadlineNanos()).toBe(b.now + 300_000);
  });

  it('a current count above the initial one counts as the initial one', () => {
    const b = bench();
    setRegister(b.apic, { [TMICT]: 1000, [TMCCT]: 5000 });
    expect(b.apic.timerDeadlineNanos()).toBe(b.now + 1000);
  });

  it('a state that enters deadline mode has its TMICT cleared', () => {
    const b = bench();
    setRegister(b.apic, { [LVT_TIMER]: DEADLINE | V, [TMICT]: 1000 });
    expect(stateWord(b.apic, TMICT)).toBe(0);
  });
});
