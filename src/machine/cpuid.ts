/**
 * What a guest reads from CPUID: the host's features less what cannot work (or was masked by name), and a topology that
 * agrees with the APIC IDs. Leaves by SDM vol. 2A "CPUID" and Linux Documentation/virt/kvm/x86/cpuid.rst.
 *
 * Topology: one package, one thread a core; the core's number is the APIC ID, so sparse IDs stay consistent.
 */
import type { CpuidEntry } from '../kvm/index.ts';
import { featureBit } from './cpu-features.ts';
import { ConfigError } from './errors.ts';

type Register = 'eax' | 'ebx' | 'ecx' | 'edx';

/** KVM_FEATURE bits (leaf 0x40000001 EAX) whose host side lives in the in-kernel APIC. */
const KERNEL_APIC_FEATURES =
  (1 << 4) | // ASYNC_PF
  (1 << 6) | // PV_EOI
  (1 << 7) | // PV_UNHALT
  (1 << 10) | // ASYNC_PF_VMEXIT
  (1 << 11) | // PV_SEND_IPI
  (1 << 13) | // PV_SCHED_YIELD
  (1 << 14); // ASYNC_PF_INT
/** MSIs carry destination bits 14:8 in address bits 11:5, so that IDs over 255 are reachable without remapping. */
const MSI_EXT_DEST_ID = 1 << 15;

const X2APIC = 1 << 21;
const TSC_DEADLINE = 1 << 24;
const HYPERVISOR = 1 << 31;
const HTT = 1 << 28;

const HYPERVISOR_LEAF = 0x4000_0000;
const TIMING_LEAF = 0x4000_0010;
/** KVM's APIC bus runs at 1 GHz. */
const APIC_BUS_KHZ = 1_000_000;

const LEVEL_TYPE_SMT = 1;
const LEVEL_TYPE_CORE = 2;

export interface CpuModel {
  readonly entries: readonly CpuidEntry[];
}

/**
 * The host's CPUID with the user's choice applied; the same for every vCPU but for its APIC ID.
 * @param spec 'host' followed by `,+name` or `,-name`
 * @throws ConfigError for an unknown base or feature name
 */
export function cpuModel(
  supported: readonly CpuidEntry[],
  spec: string,
  { userApic, tscKhz }: { readonly userApic: boolean; readonly tscKhz: number },
): CpuModel {
  const entries = supported.map((entry) => ({ ...entry }));
  addTimingLeaf(entries, tscKhz);
  const set = (leaf: number, index: number, register: Register, bit: number, on: boolean): void => {
    const entry = entries.find((each) => each.function === leaf && each.index === index);
    if (entry) entry[register] = (on ? entry[register] | bit : entry[register] & ~bit) >>> 0;
  };
  set(1, 0, 'ecx', X2APIC | HYPERVISOR | (userApic ? TSC_DEADLINE : 0), true);
  if (userApic) set(0x4000_0001, 0, 'eax', KERNEL_APIC_FEATURES, false);
  set(0x4000_0001, 0, 'eax', MSI_EXT_DEST_ID, true);
  const [base, ...changes] = spec.split(',').map((word) => word.trim());
  if (base !== 'host') throw new ConfigError(`cpu '${base}' is not known; the base is 'host', for example host,-cx16`);
  for (const change of changes) {
    const feature = featureBit(change.slice(1));
    if (!/^[+-]/.test(change) || !feature) {
      throw new ConfigError(
        `cpu feature '${change}' is not known; write +name or -name as in /proc/cpuinfo, e.g. -cx16`,
      );
    }
    set(feature.leaf, feature.index, feature.register, 1 << feature.bit, change.startsWith('+'));
  }
  return { entries };
}

/** Leaf 0x40000010, VMware's and QEMU's: TSC and APIC bus frequency in kHz, so that a guest need not measure them. */
function addTimingLeaf(entries: CpuidEntry[], tscKhz: number): void {
  const signature = entries.find((entry) => entry.function === HYPERVISOR_LEAF);
  if (!signature) return;
  signature.eax = Math.max(signature.eax, TIMING_LEAF);
  entries.push({ function: TIMING_LEAF, index: 0, flags: 0, eax: tscKhz, ebx: APIC_BUS_KHZ, ecx: 0, edx: 0 });
}

/** @param maxApicId the highest APIC ID this machine can have; @returns what KVM_SET_CPUID2 takes for the vCPU `apicId`. */
export function cpuidFor(model: CpuModel, apicId: number, maxApicId: number): CpuidEntry[] {
  const coreBits = Math.max(1, 32 - Math.clz32(maxApicId));
  const cores = 2 ** coreBits;
  const entries = model.entries.filter((entry) => entry.function !== 0xb && entry.function !== 0x1f);
  const out = entries.map((entry) => {
    const copy = { ...entry };
    switch (entry.function) {
      case 1:
        copy.ebx = ((entry.ebx & 0xffff) | (Math.min(cores, 255) << 16) | ((apicId & 0xff) << 24)) >>> 0;
        copy.edx = (cores > 1 ? entry.edx | HTT : entry.edx & ~HTT) >>> 0;
        break;
      case 4: // one thread a cache, (cores - 1) in EAX[31:26]
        if (entry.eax & 0x1f) copy.eax = ((entry.eax & 0x3fff) | (Math.min(cores - 1, 63) << 26)) >>> 0;
        break;
      case 0x8000_0008: // ApicIdSize in ECX[15:12], number of threads - 1 in ECX[7:0]
        copy.ecx = ((entry.ecx & ~0xf0ff) | (Math.min(coreBits, 15) << 12) | Math.min(cores - 1, 255)) >>> 0;
        break;
      case 0x8000_001e: // extended APIC ID, core ID with one thread a core, node 0
        copy.eax = apicId;
        copy.ebx = apicId & 0xff;
        copy.ecx = 0;
        break;
    }
    return copy;
  });
  const maxLeaf = Math.max(
    ...model.entries.filter((entry) => entry.function < 0x4000_0000).map((entry) => entry.function),
  );
  for (const leaf of [0xb, 0x1f]) {
    if (leaf > maxLeaf) continue;
    const level = (index: number, shift: number, count: number, type: number): CpuidEntry => ({
      function: leaf,
      index,
      flags: 1, // KVM_CPUID_FLAG_SIGNIFCANT_INDEX
      eax: shift,
      ebx: count,
      ecx: (type << 8) | index,
      edx: apicId,
    });
    out.push(
      level(0, 0, 1, LEVEL_TYPE_SMT),
      level(1, coreBits, Math.min(cores, 0xffff), LEVEL_TYPE_CORE),
      level(2, 0, 0, 0),
    );
  }
  return out;
}
