/**
 * CPU features by the names that Linux shows in /proc/cpuinfo and QEMU takes, with the CPUID bit behind each
 * (SDM vol. 2A "CPUID"; AMD APM vol. 3 appendix E; Linux Documentation/virt/kvm/x86/cpuid.rst for KVM's own, under QEMU's
 * names), and which features need which. A bit is also reachable as `leaf.index.register.bit`, e.g. 7.0.ebx.18.
 */

export interface FeatureBit {
  readonly leaf: number;
  readonly index: number;
  readonly register: 'eax' | 'ebx' | 'ecx' | 'edx';
  readonly bit: number;
}

/** Bit 0 first; a dot stands for a bit that has no name here. */
const WORDS: readonly [leaf: number, index: number, register: FeatureBit['register'], names: string][] = [
  [
    1,
    0,
    'edx',
    'fpu vme de pse tsc msr pae mce cx8 apic . sep mtrr pge mca cmov pat pse36 pn clflush . ds acpi mmx fxsr sse sse2 ss ht tm . pbe',
  ],
  [
    1,
    0,
    'ecx',
    'pni pclmulqdq dtes64 monitor ds_cpl vmx smx est tm2 ssse3 cid sdbg fma cx16 xtpr pdcm . pcid dca sse4_1 sse4_2 x2apic movbe popcnt tsc_deadline_timer aes xsave osxsave avx f16c rdrand hypervisor',
  ],
  [
    7,
    0,
    'ebx',
    'fsgsbase tsc_adjust sgx bmi1 hle avx2 . smep bmi2 erms invpcid rtm cqm . mpx rdt_a avx512f avx512dq rdseed adx smap avx512ifma . clflushopt clwb intel_pt avx512pf avx512er avx512cd sha_ni avx512bw avx512vl',
  ],
  [
    7,
    0,
    'ecx',
    '. avx512vbmi umip pku ospke waitpkg avx512_vbmi2 shstk gfni vaes vpclmulqdq avx512_vnni avx512_bitalg tme avx512_vpopcntdq . la57 . . . . . rdpid . bus_lock_detect cldemote . movdiri movdir64b enqcmd . .',
  ],
  [
    7,
    0,
    'edx',
    '. . . . fsrm . . . . . md_clear . . . serialize . . . pconfig . ibt . amx_bf16 . amx_tile amx_int8 . . flush_l1d arch_capabilities . .',
  ],
  [
    7,
    1,
    'eax',
    '. . . . avx_vnni avx512_bf16 . cmpccxadd . . fzrm fsrs fsrc . . . . fred lkgs wrmsrns . amx_fp16 . avx_ifma . . lam',
  ],
  [0xd, 1, 'eax', 'xsaveopt xsavec xgetbv1 xsaves'],
  [
    0x8000_0001,
    0,
    'ecx',
    'lahf_lm cmp_legacy svm extapic cr8_legacy abm sse4a misalignsse 3dnowprefetch osvw ibs xop skinit wdt . lwp fma4 tce . nodeid_msr . tbm topoext perfctr_core perfctr_nb . bpext ptsc perfctr_llc mwaitx',
  ],
  [
    0x8000_0001,
    0,
    'edx',
    '. . . . . . . . . . . syscall . . . . . . . . nx . mmxext . . fxsr_opt pdpe1gb rdtscp . lm 3dnowext 3dnow',
  ],
  [0x8000_0007, 0, 'edx', '. . . . . . . . constant_tsc'],
  [
    0x4000_0001,
    0,
    'eax',
    'kvmclock_old kvm_nopiodelay . kvmclock kvm_asyncpf kvm_steal_time kvm_pv_eoi kvm_pv_unhalt . kvm_pv_tlb_flush kvm_asyncpf_vmexit kvm_pv_ipi kvm_poll_control kvm_pv_sched_yield kvm_asyncpf_int kvm_msi_ext_dest_id kvm_hc_map_gpa_range kvm_migration_control . . . . . . kvmclock_stable_bit',
  ],
];

const ALIASES: Readonly<Record<string, string>> = {
  sse3: 'pni',
  'tsc-deadline': 'tsc_deadline_timer',
  sha: 'sha_ni',
  invtsc: 'constant_tsc',
};

/** What a feature needs, as `feature: needs`: without the one, the other must not be offered. Order does not matter. */
const NEEDS: Readonly<Record<string, string>> = {
  sse: 'fxsr',
  sse2: 'sse',
  pni: 'sse2',
  ssse3: 'pni',
  sse4_1: 'ssse3',
  sse4_2: 'sse4_1',
  sse4a: 'pni',
  misalignsse: 'sse',
  aes: 'sse2',
  pclmulqdq: 'sse2',
  gfni: 'sse2',
  sha_ni: 'sse2',
  xsaveopt: 'xsave',
  xsavec: 'xsave',
  xgetbv1: 'xsave',
  xsaves: 'xsavec',
  pku: 'xsave',
  mpx: 'xsave',
  lwp: 'xsave',
  avx: 'xsave',
  f16c: 'avx',
  fma: 'avx',
  fma4: 'avx',
  xop: 'avx',
  vaes: 'avx',
  vpclmulqdq: 'avx',
  avx2: 'avx',
  avx_vnni: 'avx2',
  avx_ifma: 'avx2',
  avx512f: 'avx2',
  avx512dq: 'avx512f',
  avx512ifma: 'avx512f',
  avx512pf: 'avx512f',
  avx512er: 'avx512f',
  avx512cd: 'avx512f',
  avx512bw: 'avx512f',
  avx512vl: 'avx512f',
  avx512vbmi: 'avx512bw',
  avx512_vbmi2: 'avx512bw',
  avx512_vnni: 'avx512f',
  avx512_bitalg: 'avx512bw',
  avx512_vpopcntdq: 'avx512f',
  avx512_bf16: 'avx512bw',
  amx_tile: 'xsave',
  amx_bf16: 'amx_tile',
  amx_int8: 'amx_tile',
  amx_fp16: 'amx_tile',
  x2apic: 'apic',
  tsc_deadline_timer: 'apic',
  extapic: 'apic',
  invpcid: 'pcid',
  kvm_pv_tlb_flush: 'kvm_steal_time',
  kvm_asyncpf_int: 'kvm_asyncpf',
  kvm_asyncpf_vmexit: 'kvm_asyncpf',
};

/** XSAVE's state components (SDM vol. 1, 13.1) that belong to one feature each; 0 and 1, x87 and SSE, always are. */
const STATE_COMPONENTS: Readonly<Record<number, string>> = {
  2: 'avx',
  3: 'mpx',
  4: 'mpx',
  5: 'avx512f',
  6: 'avx512f',
  7: 'avx512f',
  9: 'pku',
  17: 'amx_tile',
  18: 'amx_tile',
};

/** The name of the feature without which XSAVE's state component `index` has no use; undefined when nothing is known. */
export function featureOfComponent(index: number): string | undefined {
  return STATE_COMPONENTS[index];
}

/** Each pair of a feature and one that it needs. */
export const FEATURE_NEEDS: readonly (readonly [feature: string, needs: string])[] = Object.entries(NEEDS);

/** By name, once somebody asks: each start asks for a hundred. */
let named: Map<string, FeatureBit> | undefined;

function namedBits(): Map<string, FeatureBit> {
  const bits = new Map<string, FeatureBit>();
  for (const [leaf, index, register, names] of WORDS) {
    for (const [bit, name] of names.split(' ').entries()) {
      if (name !== '.' && !bits.has(name)) bits.set(name, { leaf, index, register, bit });
    }
  }
  return bits;
}

/** @returns the bit behind a feature's name, or undefined when nothing is known by it. */
export function featureBit(name: string): FeatureBit | undefined {
  named ??= namedBits();
  const known = named.get(ALIASES[name] ?? name);
  if (known) return known;
  const raw = /^(0x[\da-f]+|\d+)\.(\d+)\.(eax|ebx|ecx|edx)\.(\d+)$/.exec(name);
  if (raw && Number(raw[4]) < 32) {
    return {
      leaf: Number(raw[1]),
      index: Number(raw[2]),
      register: raw[3] as FeatureBit['register'],
      bit: Number(raw[4]),
    };
  }
  return named.get(name.replaceAll(/[-.]/g, '_'));
}
