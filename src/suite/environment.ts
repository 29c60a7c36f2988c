/**
 * The environment that kvm-unit-tests' runner hands to an image through -initrd (their scripts/arch-run.bash): lines of
 * `NAME=value` about the host's kernel, and for each erratum of errata.txt whether that kernel has the fix.
 */

interface KernelVersion {
  readonly version: number;
  readonly patchLevel: number;
  readonly subLevel: number;
}

/** @param release as uname -r has it: 6.18.44-generic */
export function kernelVersion(release: string): KernelVersion {
  const [version = 0, patchLevel = 0, subLevel = 0] = (/^(\d+)\.(\d+)(?:\.(\d+))?/.exec(release)?.slice(1) ?? []).map(
    (digits) => Number(digits ?? 0),
  );
  return { version, patchLevel, subLevel };
}

/**
 * @param errata the text of errata.txt: `commit : minimum kernel : summary`
 * @param own lines from a file of the user's ($KVM_UNIT_TESTS_ENV); they come before ours
 */
export function imageEnvironment(release: string, errata: string, own = ''): string {
  const kernel = kernelVersion(release);
  const lines = own.split(/\r?\n/).filter((line) => /^\s*[A-Za-z_]\w*=/.test(line));
  const add = (name: string, value: string | number): void => {
    if (!lines.some((line) => line.trimStart().startsWith(`${name}=`))) lines.push(`${name}=${value}`);
  };
  add('KERNEL_VERSION_STRING', release);
  add('KERNEL_VERSION', kernel.version);
  add('KERNEL_PATCHLEVEL', kernel.patchLevel);
  add('KERNEL_SUBLEVEL', kernel.subLevel);
  add('KERNEL_EXTRAVERSION', /^[\d.]+-(.*)$/.exec(release)?.[1] ?? '');
  for (const line of errata.split(/\r?\n/)) {
    const [commit = '', minimum = ''] = line.split(':').map((word) => word.trim());
    if (!/^[\da-f]{12}$/.test(commit)) continue;
    add(`ERRATA_${commit}`, isAtLeast(kernel, kernelVersion(minimum)) ? 'y' : 'n');
  }
  return `${lines.join('\n')}\n`;
}

function isAtLeast(have: KernelVersion, want: KernelVersion): boolean {
  if (have.version !== want.version) return have.version > want.version;
  if (have.patchLevel !== want.patchLevel) return have.patchLevel > want.patchLevel;
  return have.subLevel >= want.subLevel;
}
