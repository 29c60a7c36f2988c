/** What a guest reads from CPUID. Bit numbers as in the SDM (vol. 2A, CPUID) and AMD's APM (vol. 3, appendix E). */
import { describe, expect, it } from 'vitest';
import type { CpuidEntry } from '../../../src/kvm/index.ts';
import { cpuidFor, cpuModel } from '../../../src/machine/cpuid/cpuid.ts';

type Registers = Partial<Pick<CpuidEntry, 'eax' | 'ebx' | 'ecx' | 'edx'>>;
const leaf = (number: number, index: number, registers: Registers): CpuidEntry => ({
  function: number,
  index,
  flags: 0,
  eax: 0,
  ebx: 0,
  ecx: 0,
  edx: 0,
  ...registers,
});

const bits = (...numbers: number[]): number => numbers.reduce((word, bit) => word | (1 << bit), 0) >>> 0;
const has = (word: number | undefined, bit: number): boolean => (((word ?? 0) >>> bit) & 1) === 1;

/** SSE to AVX-512 with its state, both vendors' cache and topology leaves, and all of KVM's features. */
const HOST: readonly CpuidEntry[] = [
  leaf(0, 0, { eax: 0x20 }),
  leaf(1, 0, { ebx: 0x0102_0800, ecx: bits(0, 1, 9, 12, 13, 17, 19, 20, 25, 26, 28, 29), edx: 0x078b_fbff }),
  leaf(4, 0, { eax: 0x121 }),
  leaf(4, 1, { eax: 0x143 }),
  leaf(4, 2, { eax: 0x163 }),
  leaf(4, 3, {}),
  leaf(7, 0, { eax: 1, ebx: bits(5, 10, 16, 17, 30, 31), ecx: bits(1, 3, 9, 10, 11) }),
  leaf(7, 1, { eax: bits(4, 5) }),
  leaf(0xb, 0, { edx: 77 }),
  leaf(0xd, 0, { eax: 0x2e7, ebx: 0x980, ecx: 0xa80 }),
  leaf(0xd, 1, { eax: 0xf, ecx: bits(11, 12) }),
  leaf(0xd, 2, { eax: 0x100, ebx: 0x240 }),
  leaf(0xd, 5, { eax: 0x40, ebx: 0x440 }),
  leaf(0xd, 6, { eax: 0x200, ebx: 0x480 }),
  leaf(0xd, 7, { eax: 0x400, ebx: 0x680 }),
  leaf(0xd, 9, { eax: 8, ebx: 0xa80 }),
  leaf(0xd, 11, { eax: 16, ecx: 1 }),
  leaf(0x1f, 0, { edx: 77 }),
  leaf(0x4000_0000, 0, { eax: 0x4000_0001, ebx: 0x4b4d_564b }),
  leaf(0x4000_0001, 0, { eax: 0x0103_7efb }),
  leaf(0x8000_0008, 0, { eax: 0x3030, ecx: 0x7001 }),
  leaf(0x8000_001d, 0, { eax: 0x121 }),
  leaf(0x8000_001d, 3, { eax: 0x4163 }),
  leaf(0x8000_001e, 0, { eax: 77, ebx: 0x101, ecx: 3 }),
  leaf(0x8000_0026, 0, { eax: 1, ebx: 2, edx: 77 }),
];

function guest(
  spec: string,
  apicId = 0,
  maxApicId = 0xff,
  options = { userApic: true, extendedDestinations: true },
  cpus = 300,
) {
  const model = cpuModel(HOST, spec, { tscKhz: 2_000_000, ...options });
  const entries = cpuidFor(model, { apicId, maxApicId, cpus });
  return (number: number, index = 0): CpuidEntry | undefined =>
    entries.find((entry) => entry.function === number && entry.index === index);
}

describe('topology', () => {
  it.each([0, 1, 0x23, 0xff, 0x123])('tells one APIC ID in every leaf: %s', (apicId) => {
    const cpuid = guest('host', apicId, 0x123);
    expect((cpuid(1)?.ebx ?? 0) >>> 24).toBe(apicId & 0xff);
    for (const number of [0xb, 0x1f]) for (const index of [0, 1, 2]) expect(cpuid(number, index)?.edx).toBe(apicId);
    expect(cpuid(0x8000_001e)?.eax).toBe(apicId);
    expect(cpuid(0x8000_001e)?.ebx).toBe(apicId & 0xff);
  });

  it('has one package with one thread a core, wide enough for the highest APIC ID', () => {
    const cpuid = guest('host', 0, 0x123);
    expect(cpuid(0xb, 0)).toMatchObject({ eax: 0, ebx: 1, ecx: 0x100 });
    expect(cpuid(0xb, 1)).toMatchObject({ eax: 9, ebx: 300, ecx: 0x201 });
    expect(cpuid(0xb, 2)).toMatchObject({ eax: 0, ebx: 0, ecx: 2 });
    expect(cpuid(0x8000_0008)?.ecx).toBe((9 << 12) | 255);
    expect(has(cpuid(1)?.edx, 28)).toBe(true);
  });

  it.each([
    [1, 0],
    [2, 1],
    [256, 255],
    [1024, 255],
  ])('of %i CPUs that there can be says %i, less one, whatever their IDs have room for', (cpus, count) => {
    const cpuid = guest('host', 0, 0xff, undefined, cpus);
    expect(cpuid(0x8000_0008)?.ecx).toBe((8 << 12) | count);
    expect(cpuid(0xb, 1)?.ebx).toBe(cpus);
  });

  it('gives each core its L1 and L2 and the package its L3', () => {
    const cpuid = guest('host', 5, 0xff);
    const sharing = (number: number, index: number) => (((cpuid(number, index)?.eax ?? 0) >>> 14) & 0xfff) + 1;
    expect([sharing(4, 0), sharing(4, 1), sharing(4, 2)]).toEqual([1, 1, 256]);
    expect([sharing(0x8000_001d, 0), sharing(0x8000_001d, 3)]).toEqual([1, 256]);
    expect((cpuid(4, 0)?.eax ?? 0) >>> 26).toBe(63);
    expect(cpuid(4, 3)?.eax).toBe(0);
  });

  it("leaves out AMD's extended topology, which would contradict leaf 0xb", () => {
    expect(guest('host')(0x8000_0026)).toBeUndefined();
  });

  it('has leaf 0xb even where the host ends before it', () => {
    const old = HOST.filter((entry) => ![0xb, 0xd, 0x1f].includes(entry.function)).map((entry) =>
      entry.function === 0 ? { ...entry, eax: 7 } : entry,
    );
    const entries = cpuidFor(cpuModel(old, 'host', { userApic: true, tscKhz: 1 }), {
      apicId: 3,
      maxApicId: 0xff,
      cpus: 4,
    });
    expect(entries.find((entry) => entry.function === 0)?.eax).toBe(0xb);
    expect(entries.find((entry) => entry.function === 0xb)?.edx).toBe(3);
    expect(entries.some((entry) => entry.function === 0x1f)).toBe(false);
  });
});

describe('features', () => {
  it('offers x2APIC and the deadline timer with either kind of APIC', () => {
    for (const userApic of [true, false]) {
      const ecx = guest('host', 0, 255, { userApic, extendedDestinations: false })(1)?.ecx;
      expect([has(ecx, 21), has(ecx, 24), has(ecx, 31)]).toEqual([true, true, true]);
    }
  });

  it('takes away AVX and all that builds on it with XSAVE, and empties leaf 0xd', () => {
    const cpuid = guest('host,-xsave');
    const ecx = cpuid(1)?.ecx;
    expect([has(ecx, 26), has(ecx, 28), has(ecx, 12), has(ecx, 29)]).toEqual([false, false, false, false]);
    expect([has(ecx, 0), has(ecx, 13), has(ecx, 20)]).toEqual([true, true, true]);
    expect(has(cpuid(7)?.ebx, 10)).toBe(true); // INVPCID needs PCID only
    for (const bit of [5, 16, 17, 30, 31]) expect(has(cpuid(7)?.ebx, bit)).toBe(false);
    for (const bit of [1, 3, 9, 10, 11]) expect(has(cpuid(7)?.ecx, bit)).toBe(false);
    expect(cpuid(7, 1)?.eax).toBe(0);
    for (const index of [0, 1, 2, 5, 9, 11])
      expect(cpuid(0xd, index)).toMatchObject({ eax: 0, ebx: 0, ecx: 0, edx: 0 });
  });

  it('takes AVX-512 out of the XSAVE area and keeps the rest', () => {
    const cpuid = guest('host,-avx512f');
    expect(has(cpuid(7)?.ebx, 5)).toBe(true);
    for (const bit of [16, 17, 30, 31]) expect(has(cpuid(7)?.ebx, bit)).toBe(false);
    expect(cpuid(0xd)).toMatchObject({ eax: 0x207, ecx: 0xa88 });
    for (const index of [5, 6, 7]) expect(cpuid(0xd, index)?.eax).toBe(0);
    expect(cpuid(0xd, 2)).toMatchObject({ eax: 0x100, ebx: 0x240 });
  });

  it('keeps the supervisor components only with XSAVES', () => {
    expect(guest('host')(0xd, 1)?.ecx).toBe(bits(11, 12));
    expect(guest('host')(0xd, 11)?.eax).toBe(16);
    expect(guest('host,-xsaves')(0xd, 1)?.ecx).toBe(0);
    expect(guest('host,-xsaves')(0xd, 11)?.eax).toBe(0);
  });

  it('sizes the XSAVE area for x87 and SSE alone when nothing else is left', () => {
    expect(guest('host,-avx,-pku')(0xd)).toMatchObject({ eax: 3, ebx: 576, ecx: 576 });
  });

  it('refuses to add what cannot be', () => {
    expect(() => guest('host,-xsave,+avx')).toThrow("cpu feature '+avx' cannot be");
    expect(() => guest('host,+3dnow')).toThrow("cpu feature '+3dnow' cannot be"); // the host has no such leaf
    expect(() => guest('host,+warp')).toThrow("cpu feature '+warp' is not known");
    expect(() => guest('qemu64')).toThrow("cpu 'qemu64' is not known");
  });

  it('takes names with dots and dashes, and raw bits', () => {
    expect(has(guest('host,-sse4.2')(1)?.ecx, 20)).toBe(false);
    expect(has(guest('host,-tsc-deadline')(1)?.ecx, 24)).toBe(false);
    expect(has(guest('host,-1.0.ecx.13')(1)?.ecx, 13)).toBe(false);
  });
});

describe("KVM's own leaves", () => {
  const features = (spec: string, userApic: boolean, extendedDestinations: boolean) =>
    guest(spec, 0, 255, { userApic, extendedDestinations })(0x4000_0001)?.eax;

  it('keep what needs no in-kernel APIC', () => {
    const eax = features('host', true, true);
    for (const bit of [0, 1, 3, 5, 6, 9, 15, 16, 17, 24]) expect(has(eax, bit)).toBe(true);
    for (const bit of [4, 7, 10, 11, 12, 13, 14]) expect(has(eax, bit)).toBe(false);
  });

  it("keep all with KVM's APIC", () => {
    expect(features('host', false, true)).toBe(0x0103_fefb);
  });

  it('offer destinations over 255 in MSIs only with 32-bit IDs, or by name', () => {
    expect(has(features('host', true, false), 15)).toBe(false);
    expect(has(features('host,+kvm-msi-ext-dest-id', true, false), 15)).toBe(true);
    expect(has(features('host,-kvm-msi-ext-dest-id', true, true), 15)).toBe(false);
  });

  it('go without TLB flushing when steal time is masked: it lives there', () => {
    expect(has(features('host,-kvm-steal-time', true, true), 9)).toBe(false);
  });

  it('tell the frequency of the TSC and of the APIC bus', () => {
    expect(guest('host')(0x4000_0010)).toMatchObject({ eax: 2_000_000, ebx: 1_000_000 });
    expect(guest('host')(0x4000_0000)?.eax).toBe(0x4000_0010);
  });
});
