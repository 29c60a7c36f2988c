/** What an observer of the APICs is told, in order, and that nothing is told to nobody. */
import { describe, expect, it } from 'vitest';
import { ApicSystem, type ApicTraceEvent } from '../../../src/apic/index.ts';
import { ICR, ICR2, LVT_TIMER, MASKED, SPIV, TMICT } from './helpers.ts';

function traced(...apicIds: number[]) {
  const events: ApicTraceEvent[] = [];
  const system = new ApicSystem({}, { trace: { event: (event) => void events.push(event) } });
  const apics = apicIds.map((id) => system.addApic(id));
  for (const apic of apics) apic.writeMmio(SPIV, 4, 0x1ff);
  const taken = (): ApicTraceEvent[] => events.splice(0);
  return { system, apics, taken };
}

describe('the observer', () => {
  it('hears of an IPI from the sender to its end', () => {
    const { apics, taken } = traced(0, 1);
    taken();
    apics[0].writeMmio(ICR2, 4, 1 << 24);
    apics[0].writeMmio(ICR, 4, 0x41);
    apics[1].acknowledge();
    apics[1].eoi();
    expect(taken()).toMatchObject([
      { kind: 'accept', vcpuIndex: 1, vector: 0x41, deliveryMode: 0, taken: true },
      { kind: 'route', path: 'map', result: 1, message: { source: 0, destination: 1 } },
      { kind: 'eoi', vcpuIndex: 1, vector: 0x41 },
    ]);
  });

  it('hears what was dropped', () => {
    const { system, apics, taken } = traced(0);
    apics[0].writeMmio(SPIV, 4, 0xff);
    taken();
    system.signalMsi(0xfee00000, 0, 0x41);
    expect(taken()).toMatchObject([
      { kind: 'accept', vcpuIndex: 0, taken: false },
      { kind: 'route', result: 0 },
    ]);
  });

  it('hears of registers that others route by, and of the map that follows', () => {
    const { apics, taken } = traced(0x23, 0x123);
    expect(
      taken()
        .filter(({ kind }) => kind === 'map')
        .at(-1),
    ).toMatchObject({
      reason: "the physical ID of vCPU 1 is another one's too",
    });
    apics[1].setApicBase(0xfee00c00, 0);
    expect(taken()).toMatchObject([
      { kind: 'register', vcpuIndex: 1, register: 'APIC_BASE', value: 0xfee00c00 },
      { kind: 'map', reason: null },
    ]);
    apics[0].writeMmio(0xd0, 4, 0x01000000);
    expect(taken()).toMatchObject([{ register: 'LDR', value: 0x01000000 }, { kind: 'map' }]);
    expect(apics[0].writeMsr(0x80d, 1, 0)).toBe(false);
    expect(taken()).toEqual([]);
  });

  it('hears of a timer that runs out, behind its mask too', () => {
    const { apics, taken } = traced(0);
    apics[0].writeMmio(LVT_TIMER, 4, MASKED | 0x41);
    apics[0].writeMmio(TMICT, 4, 1000);
    taken();
    apics[0].expireTimer(10_000);
    expect(taken()).toEqual([{ kind: 'timer', vcpuIndex: 0, vector: 0x41, masked: true }]);
  });
});
