/**
 * Whose rules a model follows: KVM's, as of a kernel, or hardware's. Which rules a kernel has is in rules.ts (`since`).
 *
 * A kernel here is a stable series as distributors ship it: fixes that were taken back into it are in (6.1 is 6.1.192).
 */
export const KERNELS = ['6.1', '6.12', '6.18', '7.2'] as const;
/** A kernel whose rules there are, by its version. */
export type Kernel = (typeof KERNELS)[number];
const NEWEST: Kernel = '7.2';

/**
 * - `kvm@6.1`, ...: KVM of that kernel
 * - `kvm`: the newest of them
 * - `kvm-legacy`: a name for kvm@6.1, the one before commit 5b84b0291702 (v6.3): the hotplug hack whatever the gate says
 * - `hardware`: no hack. An APIC in xAPIC mode compares the low 8 bits of a destination, whatever the upper ones are
 */
export type Behaviour = 'kvm' | 'kvm-legacy' | `kvm@${Kernel}` | 'hardware';
/** Every name that the option `behaviour` takes. */
export const BEHAVIOURS: readonly Behaviour[] = [
  'kvm',
  'kvm-legacy',
  'hardware',
  ...KERNELS.map((kernel) => `kvm@${kernel}` as const),
];

/** The kernel whose rules are in force. Hardware has none: it departs from the newest in behaviour.ts. */
export function kernelOf(behaviour: Behaviour): Kernel {
  if (behaviour === 'kvm-legacy') return '6.1';
  return KERNELS.find((kernel) => behaviour === `kvm@${kernel}`) ?? NEWEST;
}

/** Is Linux version `a` older than `b`? Versions are 'major.minor'. */
export function isOlder(a: string, b: string): boolean {
  const [majorA, minorA] = a.split('.').map(Number);
  const [majorB, minorB] = b.split('.').map(Number);
  return majorA < majorB || (majorA === majorB && minorA < minorB);
}
