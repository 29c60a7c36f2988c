/**
 * What a guest reads from CPUID: the host's features less what cannot work or was masked by name, what KVM offers its
 * guests, and a topology that agrees with the APIC IDs (cpuid-topology.ts). Leaves by SDM vol. 2A "CPUID" and Linux
 * Documentation/virt/kvm/x86/cpuid.rst.
 */
import type { CpuidEntry } from '../../kvm/index.ts';
import { ConfigError } from '../errors.ts';
import { FEATURE_NEEDS, type FeatureBit, featureBit, featureOfComponent } from './features.ts';
import { type CpuPlace, withTopology } from './topology.ts';

/** KVM's features whose host side lives in the in-kernel APIC, or that only help a vCPU which waits inside KVM_RUN. */
const KERNEL_APIC_FEATURES = [
  'kvm_asyncpf',
  'kvm_asyncpf_int',
  'kvm_asyncpf_vmexit',
  'kvm_pv_unhalt',
  'kvm_pv_ipi',
  'kvm_pv_sched_yield',
  'kvm_poll_control',
];

const HYPERVISOR_LEAF = 0x4000_0000;
const TIMING_LEAF = 0x4000_0010;
/** KVM's APIC bus runs at 1 GHz. */
const APIC_BUS_KHZ = 1_000_000;

const XSAVE_LEAF = 0xd;
/** x87, SSE and the XSAVE header: the area with no component beyond bit 1 (SDM vol. 1, 13.4). */
const LEGACY_XSAVE_BYTES = 576;
const FIRST_EXTENDED_COMPONENT = 2;
const COMPONENTS = 63;

/** CPUID.0:EBX, the first letters of the vendor: GenuineIntel, CentaurHauls, "  Shanghai  ". */
const INTEL_COMPATIBLE: ReadonlySet<number> = new Set([0x756e6547, 0x746e6543, 0x68532020]);
/** Without leaf 0x80000008 (cpuid_query_maxphyaddr). */
const DEFAULT_ADDRESS_BITS = 36;

export interface CpuModel {
  readonly entries: readonly CpuidEntry[];
}

export interface CpuModelOptions {
  /** Our local APICs rather than KVM's. */
  readonly userApic: boolean;
  /** Frequency of the guest's TSC. */
  readonly tscKhz: number;
  /** MSIs and I/O APIC entries reach APIC IDs over 255 by address bits 11:5: KVM takes them with 32-bit IDs on only. */
  readonly extendedDestinations?: boolean;
}

/**
 * The host's CPUID with the user's choice applied; the same for every vCPU but for its APIC ID.
 * @param spec 'host' followed by `,+name` or `,-name`
 * @throws ConfigError for an unknown base or feature name, and for `+name` where it cannot be
 */
export function cpuModel(supported: readonly CpuidEntry[], spec: string, options: CpuModelOptions): CpuModel {
  const { userApic, tscKhz, extendedDestinations = false } = options;
  const entries = supported.map((entry) => ({ ...entry }));
  addTimingLeaf(entries, tscKhz);
  // Not in KVM_GET_SUPPORTED_CPUID of every kernel: both of our kinds of APIC have them (Documentation/virt/kvm/api.rst).
  for (const name of ['x2apic', 'tsc_deadline_timer', 'hypervisor']) setFeature(entries, named(name), true);
  if (userApic) for (const name of KERNEL_APIC_FEATURES) setFeature(entries, named(name), false);
  setFeature(entries, named('kvm_msi_ext_dest_id'), extendedDestinations);
  const changes = parseSpec(spec);
  for (const { bit, on } of changes) setFeature(entries, bit, on);
  dropWhatLacksItsNeeds(entries);
  trimXsave(entries);
  for (const { word, bit, on } of changes) {
    if (on && !hasFeature(entries, bit)) {
      throw new ConfigError(`cpu feature '${word}' cannot be: what it needs is not there, here or on this host`);
    }
  }
  return { entries };
}

/** @returns what KVM_SET_CPUID2 takes for one vCPU. */
export function cpuidFor(model: CpuModel, place: CpuPlace): CpuidEntry[] {
  return withTopology(model.entries, place);
}

/** What of a guest's CPUID decides how its local APICs behave (guest_cpu_cap_has and its like in KVM's lapic.c). */
export function apicCpuid({ entries }: CpuModel): {
  x2apicCpuid: boolean;
  tscDeadlineCpuid: boolean;
  physicalAddressBits: number;
  intelCompatible: boolean;
} {
  return {
    x2apicCpuid: hasFeature(entries, named('x2apic')),
    tscDeadlineCpuid: hasFeature(entries, named('tsc_deadline_timer')),
    physicalAddressBits: (entryOf(entries, 0x8000_0008, 0)?.eax ?? DEFAULT_ADDRESS_BITS) & 0xff,
    intelCompatible: INTEL_COMPATIBLE.has(entryOf(entries, 0, 0)?.ebx ?? 0),
  };
}

/** Whether guests are told that MSIs and I/O APIC entries carry destination bits 14:8 (KVM_FEATURE_MSI_EXT_DEST_ID). */
export function offersExtendedDestinations({ entries }: CpuModel): boolean {
  return hasFeature(entries, named('kvm_msi_ext_dest_id'));
}

interface Change {
  readonly word: string;
  readonly bit: FeatureBit;
  readonly on: boolean;
}

function parseSpec(spec: string): Change[] {
  const [base, ...words] = spec.split(',').map((word) => word.trim());
  if (base !== 'host') throw new ConfigError(`cpu '${base}' is not known; the base is 'host', for example host,-cx16`);
  return words.map((word) => {
    const bit = featureBit(word.slice(1));
    if (!/^[+-]/.test(word) || !bit) {
      throw new ConfigError(`cpu feature '${word}' is not known; write +name or -name as in /proc/cpuinfo, e.g. -cx16`);
    }
    return { word, bit, on: word.startsWith('+') };
  });
}

function named(name: string): FeatureBit {
  const bit = featureBit(name);
  if (!bit) throw new Error(`no feature is called ${name}`);
  return bit;
}

function entryOf(entries: readonly CpuidEntry[], leaf: number, index: number): CpuidEntry | undefined {
  return entries.find((entry) => entry.function === leaf && entry.index === index);
}

function hasFeature(entries: readonly CpuidEntry[], { leaf, index, register, bit }: FeatureBit): boolean {
  return (((entryOf(entries, leaf, index)?.[register] ?? 0) >>> bit) & 1) === 1;
}

/** A leaf that the host does not have stays away. */
function setFeature(entries: readonly CpuidEntry[], { leaf, index, register, bit }: FeatureBit, on: boolean): void {
  const entry = entryOf(entries, leaf, index);
  if (entry) entry[register] = (on ? entry[register] | (1 << bit) : entry[register] & ~(1 << bit)) >>> 0;
}

function dropWhatLacksItsNeeds(entries: readonly CpuidEntry[]): void {
  for (let again = true; again; ) {
    again = false;
    for (const [name, needs] of FEATURE_NEEDS) {
      const feature = named(name);
      if (!hasFeature(entries, feature) || hasFeature(entries, named(needs))) continue;
      setFeature(entries, feature, false);
      again = true;
    }
  }
}

/**
 * Leaf 0xd in step with the features: no state component without its feature, the area no larger than what is left, and
 * nothing at all without XSAVE. EBX, which follows XCR0, is KVM's to keep.
 */
function trimXsave(entries: CpuidEntry[]): void {
  const clear = (entry: CpuidEntry): CpuidEntry => Object.assign(entry, { eax: 0, ebx: 0, ecx: 0, edx: 0 });
  const leaf = entries.filter((entry) => entry.function === XSAVE_LEAF);
  if (!hasFeature(entries, named('xsave'))) {
    leaf.forEach(clear);
    return;
  }
  const main = entryOf(entries, XSAVE_LEAF, 0);
  const more = entryOf(entries, XSAVE_LEAF, 1);
  if (!main) return;
  const supervisor =
    more && hasFeature(entries, named('xsaves')) ? { low: more.ecx, high: more.edx } : { low: 0, high: 0 };
  const user = { low: main.eax, high: main.edx };
  let bytes = LEGACY_XSAVE_BYTES;
  for (let index = FIRST_EXTENDED_COMPONENT; index < COMPONENTS; index++) {
    const half = index < 32 ? 'low' : 'high';
    const bit = 1 << (index % 32);
    const feature = featureOfComponent(index);
    if (feature !== undefined && !hasFeature(entries, named(feature))) {
      user[half] = (user[half] & ~bit) >>> 0;
      supervisor[half] = (supervisor[half] & ~bit) >>> 0;
    }
    const entry = entryOf(entries, XSAVE_LEAF, index);
    if (!entry) continue;
    if ((user[half] & bit) !== 0) bytes = Math.max(bytes, entry.eax + entry.ebx);
    else if ((supervisor[half] & bit) === 0) clear(entry);
  }
  Object.assign(main, { eax: user.low, edx: user.high, ecx: bytes, ebx: LEGACY_XSAVE_BYTES });
  if (more) Object.assign(more, { ecx: supervisor.low, edx: supervisor.high });
}

/** Leaf 0x40000010, VMware's and QEMU's: TSC and APIC bus frequency in kHz, so that a guest need not measure them. */
function addTimingLeaf(entries: CpuidEntry[], tscKhz: number): void {
  const signature = entryOf(entries, HYPERVISOR_LEAF, 0);
  if (!signature) return;
  signature.eax = Math.max(signature.eax, TIMING_LEAF);
  entries.push({ function: TIMING_LEAF, index: 0, flags: 0, eax: tscKhz, ebx: APIC_BUS_KHZ, ecx: 0, edx: 0 });
}
