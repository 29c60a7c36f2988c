/**
 * CPU features by the names that Linux shows in /proc/cpuinfo and QEMU takes, with the CPUID bit behind each
 * (SDM vol. 2A "CPUID"; AMD APM vol. 3 appendix E). A bit is also reachable as `leaf.index.register.bit`, e.g. 7.0.ebx.18.
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
];

const ALIASES: Readonly<Record<string, string>> = {
  sse3: 'pni',
  'tsc-deadline': 'tsc_deadline_timer',
  'sse4.1': 'sse4_1',
  'sse4.2': 'sse4_2',
  sha: 'sha_ni',
  invtsc: 'constant_tsc',
};

/** @returns the bit behind a feature's name, or undefined when nothing is known by it. */
export function featureBit(name: string): FeatureBit | undefined {
  const raw = /^(0x[\da-f]+|\d+)\.(\d+)\.(eax|ebx|ecx|edx)\.(\d+)$/.exec(name);
  if (raw && Number(raw[4]) < 32) {
    return {
      leaf: Number(raw[1]),
      index: Number(raw[2]),
      register: raw[3] as FeatureBit['register'],
      bit: Number(raw[4]),
    };
  }
  const wanted = ALIASES[name] ?? name.replaceAll('-', '_');
  for (const [leaf, index, register, names] of WORDS) {
    const bit = names.split(' ').indexOf(wanted);
    if (bit >= 0 && wanted !== '.') return { leaf, index, register, bit };
  }
  return undefined;
}
