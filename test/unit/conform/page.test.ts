/** What counts as a change of a register page, for a judge that takes its time. */
import { expect, it } from 'vitest';
import { ApicSystem, BASE, REG, TIMER_MODE } from '../../../src/apic/index.ts';
import { PageTracker, putState } from '../../../src/conform/host-machine.ts';
import { ModelCpu } from '../../../src/conform/model-cpu.ts';
import { renewPpr } from '../../../src/conform/page.ts';
import type { ApicSpec, RegisterValue } from '../../../src/conform/spec.ts';

const COUNT = 0x1000;

/** What a slow judge says of the start of an APIC with these registers. */
function start(...registers: RegisterValue[]) {
  const apic = new ApicSystem({ maxApics: 1, maxApicId: 255 }, { nowNanos: () => 0 }).addApic(0);
  const spec: ApicSpec = { apicId: 0, baseLow: 0xfee00000 | BASE.ENABLE, baseHigh: 0, registers };
  const cpu = new ModelCpu(apic, 0, {}, () => 0);
  putState(apic, spec, false, false);
  const machine = { x2apicFormat: false, broadcastQuirkDisabled: false, apics: [spec], rig: [0], bootstrap: 0 };
  return new PageTracker(() => 1e9).run({ machine, operations: [] }, { cpus: [cpu], signalMsi: () => 0 }).start;
}

it('a current count that the time may have taken away has not changed', () => {
  const spiv = [REG.SPIV, 0x1ff] as const;
  const counting = start(spiv, [REG.LVT_TIMER, 1 << 16], [REG.TMICT, 0xffffffff], [REG.TMCCT, COUNT]);
  expect(counting.filter(([, offset]) => offset === REG.TMCCT)).toEqual([]);
});

it.each([
  ['without an initial count', 0, 0],
  ['in deadline mode', TIMER_MODE.TSC_DEADLINE, 1],
])('%s nothing counts, so a current count of 0 is a change however small it was', (_what, mode, initial) => {
  const changes = start([REG.SPIV, 0x1ff], [REG.LVT_TIMER, (1 << 16) | mode], [REG.TMICT, initial], [REG.TMCCT, COUNT]);
  expect(changes.filter(([, offset]) => offset === REG.TMCCT)).toEqual([[0, REG.TMCCT, 0]]);
});

it.each([
  ['TPR alone', { tpr: 0x3f, isr: [] }, 0x3f],
  ['the class of the highest vector in service, over a lower TPR', { tpr: 0x3f, isr: [0x31, 0x82] }, 0x80],
  ['TPR, low bits and all, of the same class', { tpr: 0x8f, isr: [0x82] }, 0x8f],
  ['nothing', { tpr: 0, isr: [] }, 0],
])('PPR is made anew from %s', (_what, { tpr, isr }, ppr) => {
  const page = new Uint8Array(1024);
  const view = new DataView(page.buffer);
  view.setUint32(0x80, tpr, true);
  view.setUint32(0xa0, 0x55, true);
  for (const vector of isr) page[0x100 + 0x10 * (vector >> 5) + ((vector >> 3) & 3)] |= 1 << (vector & 7);
  const before = page.slice();
  renewPpr(page);
  expect(view.getUint32(0xa0, true)).toBe(ppr);
  view.setUint32(0xa0, 0x55, true);
  expect(page).toEqual(before);
});
