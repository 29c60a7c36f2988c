/** struct kvm_cpuid2 with its flexible array of entries, read and written. */
import { KvmError } from './errors.ts';
import { type CpuidEntry, kvmCpuid2, kvmCpuidEntry2 } from './layouts.ts';
import { tryIoctl } from './libc.ts';

const E2BIG = 7;
const FIRST_TRY = 128;
const LIMIT = 4096;

// Each start reads and writes a hundred entries: by words, which takes a tenth of what their layout's decoder does.
const {
  function: FUNCTION,
  index: INDEX,
  flags: FLAGS,
  eax: EAX,
  ebx: EBX,
  ecx: ECX,
  edx: EDX,
} = kvmCpuidEntry2.offsets;
const HEADER_WORDS = kvmCpuid2.size >> 2;
const ENTRY_WORDS = kvmCpuidEntry2.size >> 2;

function readEntry(words: Uint32Array, at: number): CpuidEntry {
  const word = (offset: number): number => words[at + (offset >> 2)] ?? 0;
  return {
    function: word(FUNCTION),
    index: word(INDEX),
    flags: word(FLAGS),
    eax: word(EAX),
    ebx: word(EBX),
    ecx: word(ECX),
    edx: word(EDX),
  };
}

function writeEntry(words: Uint32Array, at: number, entry: CpuidEntry): void {
  words[at + (FUNCTION >> 2)] = entry.function;
  words[at + (INDEX >> 2)] = entry.index;
  words[at + (FLAGS >> 2)] = entry.flags;
  words[at + (EAX >> 2)] = entry.eax;
  words[at + (EBX >> 2)] = entry.ebx;
  words[at + (ECX >> 2)] = entry.ecx;
  words[at + (EDX >> 2)] = entry.edx;
}

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
    const words = new Uint32Array(view.buffer);
    return Array.from({ length: nent }, (_, i) => readEntry(words, HEADER_WORDS + i * ENTRY_WORDS));
  }
}

/** @throws KvmError */
export function writeCpuid(fd: number, entries: readonly CpuidEntry[]): void {
  const view = new DataView(new ArrayBuffer(kvmCpuid2.size + entries.length * kvmCpuidEntry2.size));
  kvmCpuid2.encode(view, 0, { nent: entries.length });
  const words = new Uint32Array(view.buffer);
  entries.forEach((entry, i) => {
    writeEntry(words, HEADER_WORDS + i * ENTRY_WORDS, entry);
  });
  const result = tryIoctl(fd, 'KVM_SET_CPUID2', view);
  if (result < 0) throw new KvmError('KVM_SET_CPUID2', -result);
}
