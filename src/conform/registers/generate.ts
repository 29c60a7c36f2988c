/** Random machines and lists of register operations, as choices of fast-check. */
import fc from 'fast-check';
import { BASE, DFR, LVT, MODE, REG } from '../../apic/index.ts';
import { LOCAL_APIC_BASE } from '../../platform.ts';
import { choose, slots, word } from '../choices.ts';
import { makeApic, reg } from '../page.ts';
import type { ApicSpec, Case, GuestOperation, RegisterValue, RigSpec } from '../spec.ts';
import { GuestList, type ListHost, type ListLimits } from './guest-list.ts';
import { OTHER_PAGES, STEPS } from './steps.ts';

/** Of the VMs' eight, which the slots mean. */
const MAX_CPUS = 5;

type CpuMaker = (apicId: number, index: number, boots: boolean, limits: ListLimits) => ApicSpec;
type Registers = (bits: number, limits: ListLimits) => RegisterValue[];
const nothing: Registers = () => [];

const cpu = fc
  .record({
    mode: choose<number>([7, MODE.XAPIC], [7, MODE.X2APIC], [1, MODE.DISABLED]),
    page: choose([60, LOCAL_APIC_BASE], ...OTHER_PAGES.map((page) => [1, page] as const)),
    spiv: choose([15, 0x1ff], [1, 0xff]),
    dfr: choose<number>([7, DFR.FLAT], [1, DFR.CLUSTER]),
    more: fc.tuple(
      choose([7, nothing], [1, (bits, { wholeTpr }) => [reg(REG.TPR, bits & (wholeTpr ? 0xff : 0xf0))]]),
      // In service from the start, for EOIs: where KVM ends interrupts by itself, nothing else ever is.
      choose(
        [3, nothing],
        [1, (bits) => [reg(REG.ISR + ((bits >>> 8) & 7) * 16, (1 << (bits >>> 11)) | (1 << (bits >>> 16)))]],
      ),
      // A timer that is half-way, as a restored state has it.
      choose(
        [3, nothing],
        [1, () => [reg(REG.LVT_TIMER, LVT.MASKED), reg(REG.TMICT, 0xffffffff), reg(REG.TMCCT, 0x80000000)]],
      ),
    ),
    bits: word,
  })
  .map<CpuMaker>(({ bits, more, ...state }) => (apicId, index, boots, limits) => {
    const registers = more.flatMap((each) => each(bits, limits));
    const own = { apicId, logicalId: 1 << (index & 7), bsp: boots ? BASE.BSP : 0 };
    return makeApic({ ...state, ...own, more: registers });
  });

/** Machines on these rigs of eight, and lists of what their guests do. */
export function cases(
  rigs: readonly RigSpec[],
  { tsc, lowTpr, cr8Writes }: ListHost,
): fc.Arbitrary<Case<GuestOperation>> {
  const parts = {
    rig: fc.constantFrom(...rigs),
    /**
     * Are there writes to CR8? TPR's low bits are 0 then: a write that leaves its class as it is clears them, which is no exit
     * and shows nowhere in kvm_run, so that a monitor with its own APICs cannot know of it.
     */
    cr8: cr8Writes ? fc.boolean() : fc.constant(false),
    cpus: slots(fc.tuple(fc.nat(7), cpu), 1, MAX_CPUS),
    steps: STEPS,
  };
  return fc.record(parts).map(({ rig, cr8, cpus, steps }) => {
    const limits = { cr8, wholeTpr: lowTpr && !cr8 };
    const ordered = cpus.toSorted(([a], [b]) => a - b);
    const apics = ordered.map(([slot, make], i) => make(rig.rig[slot], i, slot === 0, limits));
    const list = new GuestList(apics, tsc, limits);
    for (const [cpu, step] of steps) list.add(step, cpu);
    return { machine: { ...rig, bootstrap: rig.rig[0], apics }, operations: list.operations };
  });
}
