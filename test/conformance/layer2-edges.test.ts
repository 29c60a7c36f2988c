/**
 * Edges that others got wrong, by hand: each list is carried out by a guest on KVM's
 * APICs, by the same guest on ours and by the model; the three agree, and the kernel answers what is written here.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { compareOutcomes } from '../../src/conform/compare.ts';
import { probeHost } from '../../src/conform/host.ts';
import { ModelJudge } from '../../src/conform/model-judge.ts';
import { KernelRig } from '../../src/conform/registers/kernel-rig.ts';
import { probeMachine } from '../../src/conform/registers/probe.ts';
import { UserRig } from '../../src/conform/registers/user-rig.ts';
import type { ApicSpec, GuestKind, GuestOperation, Outcome } from '../../src/conform/spec.ts';
import { whyNoKvm } from './campaign.ts';

const PAGE = 0xfee00000;
const XAPIC = 0x800;
const X2APIC = 0xc00;
const BSP = 0x100;
const RIG = { x2apicFormat: true, broadcastQuirkDisabled: false, rig: [0, 1, 0x23, 0x123, 0xfff] };

const operation = (kind: GuestKind, cpu: number, address = 0, low = 0, high = 0, size = 4): GuestOperation => ({
  kind,
  cpu,
  size,
  address,
  low: low >>> 0,
  high: high >>> 0,
});
const read = (cpu: number, offset: number, size = 4) => operation('mmio-read', cpu, PAGE + offset, 0, 0, size);
const write = (cpu: number, offset: number, value: number, size = 4) =>
  operation('mmio-write', cpu, PAGE + offset, value, 0, size);
const rdmsr = (cpu: number, msr: number) => operation('rdmsr', cpu, msr);
const wrmsr = (cpu: number, msr: number, low: number, high = 0) => operation('wrmsr', cpu, msr, low, high);
const window = (cpu: number) => operation('window', cpu, 0, 0, 0, 0);

/** A software-enabled APIC as reset leaves it otherwise; its logical ID is a bit of its own. */
function apic(apicId: number, mode: number): ApicSpec {
  const boots = apicId === 0 ? BSP : 0;
  const own = mode === X2APIC ? [] : ([[0x20, (apicId & 0xff) * 2 ** 24]] as const);
  return {
    apicId,
    baseLow: (PAGE | mode | boots) >>> 0,
    baseHigh: 0,
    registers: [...own, [0xd0, (1 << RIG.rig.indexOf(apicId)) * 2 ** 24], [0xe0, 0xffffffff], [0xf0, 0x1ff]],
  };
}

const why = whyNoKvm();

describe.skipIf(why !== undefined)(`edges through a guest${why === undefined ? '' : ` (skipped: ${why})`}`, () => {
  let kernel: KernelRig;
  let user: UserRig;
  let model: ModelJudge;

  beforeAll(async () => {
    const options = { ...probeHost(), ...(await probeMachine()).options };
    kernel = await KernelRig.create(RIG);
    user = await UserRig.create(RIG, options);
    model = new ModelJudge(options);
  }, 60_000);

  afterAll(() => {
    kernel.close();
    user.close();
  });

  /** @returns the kernel's outcome, which the others' equal */
  function carryOut(apics: readonly ApicSpec[], operations: readonly GuestOperation[]): Outcome {
    const candidate = { machine: { ...RIG, bootstrap: 0, apics }, operations };
    const expected = kernel.carryOut(candidate);
    const byModel = model.carryOut(candidate);
    expect(compareOutcomes(expected, byModel), 'kernel and model').toEqual([]);
    expect(compareOutcomes(expected, user.carryOut(candidate), byModel), 'kernel and ours').toEqual([]);
    return expected;
  }

  const values = ({ results }: Outcome): (number | string)[] =>
    results.map(({ low, fault }) => (fault === 0 ? low : `fault ${fault}`));
  const taken = ({ cpus }: Outcome): number[][] => cpus.map((cpu) => cpu.taken.map(({ vector }) => vector));
  const register = ({ cpus }: Outcome, cpu: number, offset: number): number => {
    const page = cpus[cpu]?.page ?? new Uint8Array(1024);
    return new DataView(page.buffer, page.byteOffset).getUint32(offset, true);
  };

  it.each([0x00000000, 0x5fffffff, 0xefffffff])('a DFR of %#x is kept, ones below, and panics nobody', (dfr) => {
    const outcome = carryOut(
      [apic(0, XAPIC), apic(1, XAPIC)],
      [
        write(1, 0xe0, dfr),
        read(1, 0xe0),
        write(0, 0x310, 0x02000000),
        write(0, 0x300, 0x4831),
        window(1),
        write(0, 0x310, 0xff000000),
        write(0, 0x300, 0x4832),
        window(0),
        window(1),
      ],
    );
    expect(outcome.results[1]?.low).toBe((dfr | 0x0fffffff) >>> 0);
  });

  it.each([0, 1, 2, 3, 4, 5, 6, 7])(
    'an xAPIC IPI of delivery mode %i to an ID that is absent reaches nobody',
    (mode) => {
      const icr = 0x4031 | (mode << 8);
      const outcome = carryOut(
        [apic(0, XAPIC), apic(1, XAPIC)],
        [write(0, 0x310, 0x77000000), write(0, 0x300, icr), read(0, 0x300), window(0), window(1)],
      );
      expect(outcome.results[2]?.low).toBe(icr);
      expect(taken(outcome)).toEqual([[], []]);
      expect(outcome.events).toEqual([]);
    },
  );

  it('an x2APIC IPI to an ID that is absent, beyond every ID there is, reaches nobody', () => {
    const outcome = carryOut(
      [apic(0, X2APIC), apic(0xfff, X2APIC)],
      [wrmsr(0, 0x830, 0x4031, 0x1000), wrmsr(0, 0x830, 0x4031, 0xfffffffe), window(0), window(1)],
    );
    expect(taken(outcome)).toEqual([[], []]);
  });

  it('a register is read byte by byte; what crosses its four bytes, or lies beyond the registers, is undefined', () => {
    const outcome = carryOut(
      [apic(0, XAPIC)],
      [
        write(0, 0x20, 0xab000000),
        read(0, 0x23, 1),
        read(0, 0x22, 2),
        read(0, 0x20, 2),
        read(0, 0x21, 4),
        read(0, 0x20, 8),
        read(0, 0x404, 4),
      ],
    );
    expect(values(outcome).slice(1, 4)).toEqual([0xab, 0xab00, 0]);
  });

  it('a write that is short, long or not on a 16-byte boundary is dropped', () => {
    const outcome = carryOut(
      [apic(0, XAPIC)],
      [
        write(0, 0x80, 0x50, 1),
        write(0, 0x80, 0x50, 2),
        write(0, 0x80, 0x50, 8),
        write(0, 0x81, 0x50),
        write(0, 0x84, 0x50),
        read(0, 0x80),
        write(0, 0x80, 0x50),
        read(0, 0x80),
      ],
    );
    expect(outcome.results[5]?.low).toBe(0);
    expect(outcome.results[7]?.low).toBe(0x50);
  });

  it('after its xAPIC ID was rewritten, a CPU gets IPIs to itself and to the new ID, not to the old one', () => {
    const outcome = carryOut(
      [apic(0, XAPIC), apic(1, XAPIC)],
      [
        write(1, 0x20, 0x42000000),
        write(1, 0x300, 0x44031),
        write(0, 0x310, 0x42000000),
        write(0, 0x300, 0x4041),
        write(0, 0x310, 0x01000000),
        write(0, 0x300, 0x4051),
        window(1),
      ],
    );
    expect(taken(outcome)).toEqual([[], [0x41, 0x31]]);
  });

  it.each([0x23, 0x123])(
    'INIT leaves CPU %#x in x2APIC mode, with its ID and logical ID (ACRN #4267, Xen LDR)',
    (id) => {
      const outcome = carryOut(
        [apic(0, X2APIC), apic(id, X2APIC)],
        [
          wrmsr(1, 0x80f, 0x1f7),
          wrmsr(0, 0x830, 0x4500, id),
          wrmsr(0, 0x830, 0x4608, id),
          rdmsr(1, 0x802),
          rdmsr(1, 0x80d),
          rdmsr(1, 0x80f),
        ],
      );
      expect(outcome.cpus[1]?.baseLow).toBe((PAGE | X2APIC) >>> 0);
      expect(outcome.events).toEqual(['cpu 1: INIT by operation 2', 'cpu 1: SIPI 8 by operation 3']);
      expect(values(outcome).slice(3)).toEqual([id, ((id >> 4) << 16) | (1 << (id & 15)), 0xff]);
    },
  );

  it('INIT and SIPI to all but self reach all but self (ACRN PR 551), and leave no vector behind (libvmm #358)', () => {
    const outcome = carryOut(
      [apic(0, XAPIC), apic(1, XAPIC), apic(0x23, X2APIC)],
      [write(0, 0x300, 0xc4531), write(0, 0x300, 0xc4608), window(1), window(2)],
    );
    expect(outcome.events).toEqual([
      'cpu 1: INIT by operation 1',
      'cpu 1: SIPI 8 by operation 2',
      'cpu 2: INIT by operation 1',
      'cpu 2: SIPI 8 by operation 2',
    ]);
    expect(taken(outcome)).toEqual([[], [], []]);
    expect(register(outcome, 1, 0x210)).toBe(0);
  });

  it('an IRR survives software disable and enable (OpenVMM #3839)', () => {
    const outcome = carryOut(
      [apic(0, XAPIC), apic(1, XAPIC)],
      [
        write(0, 0x310, 0x01000000),
        write(0, 0x300, 0x4031),
        write(1, 0xf0, 0xff),
        read(1, 0x210),
        write(1, 0xf0, 0x1ff),
        window(1),
      ],
    );
    expect(outcome.results[3]?.low).toBe(1 << (0x31 - 0x20));
    expect(taken(outcome)).toEqual([[], [0x31]]);
  });

  it('a shorthand ignores the destination (libvmm #355) and does not leak into the next IPI (ACRN PR 6921)', () => {
    const outcome = carryOut(
      [apic(0, X2APIC), apic(1, X2APIC), apic(0x23, X2APIC)],
      [
        wrmsr(0, 0x830, 0x44031, 1),
        rdmsr(0, 0x830),
        wrmsr(0, 0x830, 0xc4041, 1),
        wrmsr(0, 0x830, 0x4051, 1),
        window(0),
        window(1),
        window(2),
      ],
    );
    expect(outcome.results[1]).toEqual({ low: 0x44031, high: 1, fault: 0 });
    expect(taken(outcome)).toEqual([[0x31], [0x51, 0x41], [0x41]]);
  });

  it('the CPU with the highest ID toggles its mode while others send to it (KVM 4364b287982b)', () => {
    const outcome = carryOut(
      [apic(0, X2APIC), apic(0xfff, XAPIC)],
      [
        wrmsr(0, 0x830, 0x4031, 0xfff),
        wrmsr(1, 0x1b, PAGE | X2APIC),
        wrmsr(0, 0x830, 0x4032, 0xfff),
        wrmsr(1, 0x1b, PAGE),
        wrmsr(0, 0x830, 0x4033, 0xfff),
        wrmsr(1, 0x1b, PAGE | XAPIC),
        write(1, 0xf0, 0x1ff),
        wrmsr(0, 0x830, 0x4034, 0xfff),
        window(1),
      ],
    );
    expect(taken(outcome)[1]).toContain(0x34);
    expect(taken(outcome)[1]).not.toContain(0x33);
  });

  it('ICR in xAPIC mode: BUSY never reads as set, ICR2 keeps its top byte', () => {
    const outcome = carryOut(
      [apic(0, XAPIC)],
      [write(0, 0x310, 0x77abcdef), read(0, 0x310), write(0, 0x300, 0x5031), read(0, 0x300)],
    );
    expect(values(outcome)).toEqual([0, 0x77000000, 0, 0x4031]);
  });

  it('in x2APIC mode the page reads as ones, and an ICR written there sends nothing', () => {
    const outcome = carryOut(
      [apic(0, X2APIC), apic(1, XAPIC)],
      [read(0, 0x20), read(0, 0x23, 1), write(0, 0x300, 0xc4031), window(1)],
    );
    expect(values(outcome).slice(0, 2)).toEqual([0xffffffff, 0xff]);
    expect(taken(outcome)).toEqual([[], []]);
  });

  it('TPR, PPR and CR8 are one: a vector of the class waits, and is taken one class below', () => {
    const outcome = carryOut(
      [apic(0, XAPIC)],
      [
        operation('write-cr8', 0, 0, 2),
        read(0, 0x80),
        read(0, 0xa0),
        write(0, 0x300, 0x44020),
        window(0),
        operation('write-cr8', 0, 0, 1),
        window(0),
      ],
    );
    expect(values(outcome).slice(1, 3)).toEqual([0x20, 0x20]);
    expect(outcome.cpus[0]?.taken).toEqual([{ vector: 0x20, position: 6 }]);
  });

  it('the APIC base: the transitions that are #GP, and those that are not', () => {
    const outcome = carryOut(
      [apic(0, XAPIC)],
      [
        wrmsr(0, 0x1b, PAGE | BSP | 0x400),
        wrmsr(0, 0x1b, PAGE | BSP | X2APIC),
        wrmsr(0, 0x1b, PAGE | BSP | XAPIC),
        wrmsr(0, 0x1b, PAGE | BSP),
        wrmsr(0, 0x1b, PAGE | BSP | X2APIC),
        wrmsr(0, 0x1b, PAGE | BSP | XAPIC),
        wrmsr(0, 0x1b, PAGE | BSP | XAPIC | 1),
      ],
    );
    expect(values(outcome)).toEqual(['fault 13', 0, 'fault 13', 0, 'fault 13', 0, 'fault 13']);
  });

  it('the boot processor that is not so by its APIC base waits for a SIPI after INIT (kvm_vcpu_is_bsp)', () => {
    const outcome = carryOut(
      [apic(0, XAPIC), apic(1, XAPIC)],
      [
        wrmsr(0, 0x1b, PAGE | XAPIC),
        write(1, 0x310, 0),
        write(1, 0x300, 0x4500),
        read(0, 0x20),
        write(1, 0x300, 0x4608),
        read(0, 0x30),
      ],
    );
    expect(outcome.events).toEqual(['cpu 0: INIT by operation 3', 'cpu 0: SIPI 8 by operation 5']);
    expect(outcome.results[3]?.fault).toBe(0xff);
    expect(outcome.results[5]?.fault).toBe(0);
  });

  it('a TSC deadline beyond 2^64 / 1,000,000 cycles comes early: KVM multiplies in 64 bits', () => {
    for (const judge of [kernel, user]) {
      const by = (operations: GuestOperation[]): Outcome =>
        judge.carryOut({ machine: { ...RIG, bootstrap: 0, apics: [apic(0, XAPIC)] }, operations });
      const [now] = by([operation('read-tsc', 0)]).results;
      const tsc = (BigInt(now?.high ?? 0) << 32n) | BigInt(now?.low ?? 0);
      const deadline = tsc + 2n ** 64n / 1_000_000n + 20_000_000n;
      const outcome = by([
        write(0, 0x320, 0x40031),
        wrmsr(0, 0x6e0, Number(deadline & 0xffffffffn), Number(deadline >> 32n)),
        operation('wait', 0, 0, 60_000_000),
        window(0),
        rdmsr(0, 0x6e0),
      ]);
      expect(taken(outcome), judge.name).toEqual([[0x31]]);
      expect(outcome.results[4], judge.name).toEqual({ low: 0, high: 0, fault: 0 });
    }
  });
});
