/**
 * The leaves of CPUID that say how CPUs and caches lie together, for one vCPU (SDM vol. 2A "CPUID" and vol. 3A 10.9.3; AMD
 * APM vol. 3, appendix E). All say the same: one package, one thread a core, and a core's number is its APIC ID, so that
 * sparse IDs are consistent; L1 and L2 belong to one core, L3 to all.
 *
 *     leaf              tells
 *     1                 EBX 31:24 initial APIC ID (8 bits), 23:16 IDs that a package has room for, EDX 28 more than one
 *     4, 0x8000001d     EAX 25:14 how many IDs share the cache, less 1; leaf 4's 31:26 cores in a package, less 1
 *     0xb, 0x1f         EDX the x2APIC ID; a level for threads and one for cores, each with its shift
 *     0x80000008        ECX 15:12 bits of an APIC ID, 7:0 threads in a package, less 1: CPUs that there can be, not IDs
 *     0x8000001e        EAX the APIC ID, EBX 7:0 the core's number
 */
import type { CpuidEntry } from '../../kvm/index.ts';

const HTT = 1 << 28;
/** KVM_CPUID_FLAG_SIGNIFCANT_INDEX */
const INDEXED = 1;
const LEVEL = { smt: 1, core: 2 } as const;
const EXTENDED_TOPOLOGY = { intel: 0xb, intelV2: 0x1f, amd: 0x8000_0026 } as const;
const SHARED_CACHE_LEVEL = 3;

/** A vCPU among those of its machine. */
export interface CpuPlace {
  readonly apicId: number;
  /** The highest APIC ID that the machine can have. */
  readonly maxApicId: number;
  /** CPUs that it has or can be given. */
  readonly cpus: number;
}

/** @param entries the same for all vCPUs; left alone */
export function withTopology(entries: readonly CpuidEntry[], place: CpuPlace): CpuidEntry[] {
  const coreBits = Math.max(1, 32 - Math.clz32(place.maxApicId));
  const rewritten: readonly number[] = Object.values(EXTENDED_TOPOLOGY);
  const out = entries.filter((entry) => !rewritten.includes(entry.function)).map((entry) => ({ ...entry }));
  for (const entry of out) adjust(entry, place, coreBits);
  const highest = entries.find((entry) => entry.function === 0)?.eax ?? 0;
  out.push(...levels(EXTENDED_TOPOLOGY.intel, place, coreBits));
  if (highest >= EXTENDED_TOPOLOGY.intelV2) out.push(...levels(EXTENDED_TOPOLOGY.intelV2, place, coreBits));
  return out;
}

function adjust(entry: CpuidEntry, { apicId, cpus }: CpuPlace, coreBits: number): void {
  const cores = 2 ** coreBits; // IDs, with room for those that nobody has
  switch (entry.function) {
    case 0: // an x2APIC ID is read from leaf 0xb
      entry.eax = Math.max(entry.eax, EXTENDED_TOPOLOGY.intel);
      break;
    case 1:
      entry.ebx = ((entry.ebx & 0xffff) | (Math.min(cores, 255) << 16) | ((apicId & 0xff) << 24)) >>> 0;
      entry.edx = (entry.edx | HTT) >>> 0;
      break;
    case 4:
      entry.eax = cacheSharing(entry.eax, cores);
      if (entry.eax !== 0) entry.eax = ((entry.eax & 0x3ff_ffff) | (Math.min(cores - 1, 63) << 26)) >>> 0;
      break;
    case 0x8000_001d:
      entry.eax = cacheSharing(entry.eax, cores);
      break;
    case 0x8000_0008:
      entry.ecx = ((entry.ecx & ~0xf0ff) | (Math.min(coreBits, 15) << 12) | Math.min(cpus - 1, 255)) >>> 0;
      break;
    case 0x8000_001e:
      entry.eax = apicId;
      entry.ebx = apicId & 0xff;
      entry.ecx = 0;
      break;
  }
}

/*
 *   31      26 25          14 13   10 9   8 7   5 4    0
 *  ┌──────────┬──────────────┬───────┬─────┬─────┬──────┐
 *  │ (leaf 4) │ sharing - 1  │   0   │flags│level│ type │   type 0: no more caches
 *  └──────────┴──────────────┴───────┴─────┴─────┴──────┘
 */
function cacheSharing(eax: number, cores: number): number {
  if ((eax & 0x1f) === 0) return 0;
  const shared = ((eax >>> 5) & 7) >= SHARED_CACHE_LEVEL;
  return ((eax & ~0x3ff_c000) | (shared ? Math.min(cores - 1, 0xfff) << 14 : 0)) >>> 0;
}

function levels(leaf: number, { apicId, cpus }: CpuPlace, coreBits: number): CpuidEntry[] {
  const level = (index: number, shift: number, count: number, type: number): CpuidEntry => ({
    function: leaf,
    index,
    flags: INDEXED,
    eax: shift,
    ebx: count,
    ecx: (type << 8) | index,
    edx: apicId,
  });
  return [level(0, 0, 1, LEVEL.smt), level(1, coreBits, Math.min(cpus, 0xffff), LEVEL.core), level(2, 0, 0, 0)];
}
