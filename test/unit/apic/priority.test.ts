/** TPR, PPR, CR8, IRR to ISR, EOI (SDM vol. 3A, 12.8.3-12.8.5). */
import { describe, expect, it } from 'vitest';
import { ApicSystem } from '../../../src/apic/index.ts';
import {
  EOI,
  enter,
  IRR,
  ISR,
  one,
  PPR,
  read,
  SPIV,
  sendMsi,
  setRegister,
  stateWord,
  TMR,
  TPR,
  vectors,
  write,
} from './helpers.ts';

const LEVEL = 0x8000;

describe('priority', () => {
  it('a vector is taken only if its class is above that of TPR', () => {
    const { system, apic } = one();
    write(apic, TPR, 0x40);
    sendMsi(system, 0, 0x4f);
    expect(apic.pendingVector()).toBe(-1);
    expect(apic.isBlockedByTpr()).toBe(true);
    write(apic, TPR, 0x3f);
    expect(apic.pendingVector()).toBe(0x4f);
    expect(apic.isBlockedByTpr()).toBe(false);
  });

  it('the highest vector goes first, and a higher class interrupts the one in service', () => {
    const { system, apic } = one();
    for (const vector of [0x31, 0x55, 0x41]) sendMsi(system, 0, vector);
    expect(apic.acknowledge()).toBe(0x55);
    expect(apic.acknowledge()).toBe(-1);
    sendMsi(system, 0, 0x61);
    expect(apic.acknowledge()).toBe(0x61);
    expect(vectors(apic, ISR)).toEqual([0x55, 0x61]);
    apic.eoi();
    expect(vectors(apic, ISR)).toEqual([0x55]);
    apic.eoi();
    expect(apic.acknowledge()).toBe(0x41);
  });

  it('PPR is TPR, or the class in service if that is higher (SDM 12.8.3.1)', () => {
    const { system, apic } = one();
    write(apic, TPR, 0x2b);
    expect(read(apic, PPR)).toBe(0x2b);
    sendMsi(system, 0, 0x57);
    apic.acknowledge();
    expect(read(apic, PPR)).toBe(0x50);
    write(apic, TPR, 0x5c);
    expect(read(apic, PPR)).toBe(0x5c);
    write(apic, EOI, 0);
    expect(read(apic, PPR)).toBe(0x5c);
  });

  it('CR8 is TPR bits 7:4', () => {
    const { apic } = one();
    apic.setCr8(9);
    expect([read(apic, TPR), apic.cr8]).toEqual([0x90, 9]);
    write(apic, TPR, 0xaf);
    expect(apic.cr8).toBe(10);
  });

  it('vectors 0-15 can be requested but are never taken: their class is 0', () => {
    const { system, apic } = one();
    expect(sendMsi(system, 0, 0x0f)).toBe(1);
    expect([apic.highestRequested(), apic.pendingVector(), apic.isBlockedByTpr()]).toEqual([0x0f, -1, true]);
  });

  it('a second request of the same vector while it is in service waits in IRR', () => {
    const { system, apic } = one();
    sendMsi(system, 0, 0x41);
    apic.acknowledge();
    sendMsi(system, 0, 0x41);
    expect([vectors(apic, IRR), vectors(apic, ISR), apic.pendingVector()]).toEqual([[0x41], [0x41], -1]);
    apic.eoi();
    expect(apic.acknowledge()).toBe(0x41);
  });

  it('autoEoi: what is taken is in service at no time, as with the APICs of the software KVM', () => {
    const { system, apic } = one({ autoEoi: true });
    for (const vector of [0x31, 0x55]) sendMsi(system, 0, vector);
    expect([apic.acknowledge(), apic.acknowledge(), vectors(apic, ISR), read(apic, PPR)]).toEqual([0x55, 0x31, [], 0]);
  });

  it('nothing is pending while the APIC is off', () => {
    const { system, apic } = one();
    sendMsi(system, 0, 0x41);
    enter(apic, 'off');
    expect(apic.pendingVector()).toBe(-1);
  });

  it('an EOI with nothing in service does nothing', () => {
    const { apic } = one();
    write(apic, EOI, 0);
    expect(apic.snapshot().counters.eois).toBe(0);
  });
});

describe('the ISR cache (KVM keeps the highest vector in service aside)', () => {
  it('PPR in the state after setState comes from what was in service before', () => {
    const { apic } = one();
    setRegister(apic, { [ISR + 0x10]: 0x80 }); // vector 0x27
    expect(stateWord(apic, PPR)).toBe(0);
    setRegister(apic, {});
    expect(stateWord(apic, PPR)).toBe(0x20);
  });

  it('the next look for an interrupt puts PPR right', () => {
    const { apic } = one();
    setRegister(apic, { [ISR + 0x10]: 0x80 });
    apic.pendingVector();
    expect(stateWord(apic, PPR)).toBe(0x20);
  });

  it('with APICv active there is no cache, and PPR is right at once', () => {
    const { apic } = one({ apicv: true });
    setRegister(apic, { [ISR + 0x10]: 0x80 });
    expect(stateWord(apic, PPR)).toBe(0x20);
  });

  it('EOIs after a restore end every vector, highest first', () => {
    const { apic } = one();
    setRegister(apic, { [ISR + 0x10]: 0x80, [ISR + 0x20]: 0x3 });
    for (const left of [[0x27, 0x40], [0x27], []]) {
      apic.eoi();
      expect(vectors(apic, ISR)).toEqual(left);
    }
  });
});

describe('how many vectors a restored state has in service', () => {
  it('is counted over all eight words: each EOI ends one, and the last leaves PPR to TPR', () => {
    const { apic } = one();
    const inService = [0xf1, 0xe0, 0xc5, 0xa1, 0x81, 0x7f, 0x3f, 0x3e, 0x21];
    const banks: Record<number, number> = {};
    for (const v of inService) banks[ISR + (v >> 5) * 16] = ((banks[ISR + (v >> 5) * 16] ?? 0) | (1 << (v & 31))) >>> 0;
    setRegister(apic, banks);
    inService.forEach((vector, ended) => {
      expect([vectors(apic, ISR).length, read(apic, PPR)]).toEqual([inService.length - ended, vector & 0xf0]);
      apic.eoi();
    });
    expect([vectors(apic, ISR), read(apic, PPR)]).toEqual([[], 0]);
    apic.eoi();
    expect(apic.snapshot().counters.eois).toBe(inService.length);
  });
});

describe('counters', () => {
  it('each counts its own: IPIs, EOIs, interrupts taken, timer expiries, faults', () => {
    const { apic } = one();
    for (let i = 0; i < 2; i++) write(apic, 0x300, 0x40031 + i);
    apic.acknowledge();
    apic.eoi();
    apic.acknowledge();
    write(apic, 0x320, 0x20040);
    write(apic, 0x380, 1);
    for (const now of [200_000, 400_000, 600_000]) {
      apic.expireTimer(now - 1);
      apic.expireTimer(now);
      apic.pendingVector();
    }
    for (let i = 0; i < 4; i++) apic.readMsr(0x802);
    expect(apic.snapshot().counters).toEqual({ ipis: 2, eois: 1, acknowledged: 2, timerExpiries: 3, faults: 4 });
  });
});

describe('trigger mode and EOI broadcast', () => {
  it('an edge IPI of the same vector clears TMR: the EOI is not told, and the I/O APIC keeps its remote IRR set', () => {
    const eois: number[] = [];
    const system = new ApicSystem({}, { eoi: (_, vector) => eois.push(vector) });
    const apic = system.addApic(0);
    write(apic, 0xf0, 0x1ff);
    sendMsi(system, 0, 0x8000 | 0x51);
    expect(apic.acknowledge()).toBe(0x51);
    write(apic, 0x300, 0x40051);
    apic.eoi();
    expect([eois, vectors(apic, TMR)]).toEqual([[], []]);
  });

  const withEois = (options = {}): { system: ApicSystem; eois: [number, number][] } => {
    const eois: [number, number][] = [];
    const system = new ApicSystem(options, { eoi: (index, vector) => eois.push([index, vector]) });
    system.addApic(0).writeMmio(SPIV, 4, 0x11ff);
    return { system, eois };
  };

  it('TMR follows the trigger mode of each accepted interrupt, and stays after EOI', () => {
    const { system, apic } = one();
    sendMsi(system, 0, 0x41 | LEVEL);
    expect(vectors(apic, TMR)).toEqual([0x41]);
    apic.acknowledge();
    apic.eoi();
    expect(vectors(apic, TMR)).toEqual([0x41]);
    sendMsi(system, 0, 0x41);
    expect(vectors(apic, TMR)).toEqual([]);
  });

  it('the EOI of a level-triggered vector is reported, that of an edge is not', () => {
    const { system, eois } = withEois();
    sendMsi(system, 0, 0x41 | LEVEL);
    sendMsi(system, 0, 0x31);
    const apic = system.apic(0);
    apic.acknowledge();
    apic.eoi();
    apic.acknowledge();
    apic.eoi();
    expect(eois).toEqual([[0, 0x41]]);
  });

  it.each([
    ['quirk, split irqchip: offered and ignored', {}, 1],
    ['quirk, I/O APIC in the kernel: respected if set', { ioapicInKernel: true }, 1], // the bit cannot be set
    ['enabled', { suppressEoiBroadcast: 'enabled' }, 0],
    ['disabled', { suppressEoiBroadcast: 'disabled' }, 1],
  ])('SPIV bit 12, suppress EOI broadcast: %s', (_name, options, reported) => {
    const { system, eois } = withEois(options);
    sendMsi(system, 0, 0x41 | LEVEL);
    system.apic(0).acknowledge();
    system.apic(0).eoi();
    expect(eois.length).toBe(reported);
  });

  it("with KVM's handled vectors given, they decide instead of TMR", () => {
    const { system, eois } = withEois();
    const handled = new Int32Array(8);
    handled[0x31 >> 5] = 1 << (0x31 & 31);
    system.apic(0).setHandledVectors(handled);
    for (const data of [0x31, 0x41 | LEVEL]) {
      sendMsi(system, 0, data);
      system.apic(0).acknowledge();
      system.apic(0).eoi();
    }
    expect(eois).toEqual([[0, 0x31]]);
  });
});
