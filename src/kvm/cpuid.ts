/** struct kvm_cpuid2 with its flexible array of entries, read and written. */
import { KvmError } from './errors.ts';
import { type CpuidEntry, kvmCpuid2, kvmCpuidEntry2 } from './layouts.ts';
import { tryIoctl } from './libc.ts';

const E2BIG = 7;
const FIRST_TRY = 128;
const LIMIT = 4096;

/** @throws KvmError */
export function readCpuid(
  fd: number,
  name: 'KVM_GET_SUPPORTED_CPUID' | 'KVM_GET_EMULATED_CPUID' | 'KVM_GET_CPUID2',
): CpuidEntry[] {
  for (let capacity = FIRST_TRY; ; capacity *= 2) {
    const view = new DataView(new ArrayBuffer(kvmCpuid2.size + capacity * kvmCpuidEntry2.size));
    kvmCpuid2.encode(view, 0, { nent: capacity });
    const result = tryIoctl(fd, name, view);
    if (result === -E2BIG && capacity < LIMIT) continue;
    if (result < 0) throw new KvmError(name, -result);
    const { nent } = kvmCpuid2.read(view, 0);
    return Array.from({ length: nent }, (_, i) => kvmCpuidEntry2.read(view, kvmCpuid2.size + i * kvmCpuidEntry2.size));
  }
}

/** @throws KvmError */
export function writeCpuid(fd: number, entries: readonly CpuidEntry[]): void {
  const view = new DataView(new ArrayBuffer(kvmCpuid2.size + entries.length * kvmCpuidEntry2.size));
  kvmCpuid2.encode(view, 0, { nent: entries.length });
  for (const [i, entry] of entries.entries()) {
    kvmCpuidEntry2.encode(view, kvmCpuid2.size + i * kvmCpuidEntry2.size, entry);
  }
  const result = tryIoctl(fd, 'KVM_SET_CPUID2', view);
  if (result < 0) throw new KvmError('KVM_SET_CPUID2', -result);
}
