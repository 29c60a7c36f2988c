/**
 * What to try when KVM's interpreter does not know an instruction (KVM_EXIT_INTERNAL_ERROR): from the few that guests meet
 * on a host without VMX and SVM. Such a host runs ring 3 natively, and therefore may go on offering in CPUID what ring 3
 * can use, whatever `--cpu` says; what it interprets, ring 0, has no x87, MMX, SSE or AVX at all. Encodings: SDM vol. 2.
 */

const TWO_BYTES = 0x0f;
const GROUP_7 = 0x01;
const GROUP_9 = 0xc7;
const GROUP_15 = 0xae;
const MOV_TO_CR = 0x22;
const HYPERCALLS: readonly number[] = [0xc1, 0xd9]; // VMCALL, VMMCALL
const REX = { first: 0x40, last: 0x4f } as const;
const PREFIXES: readonly number[] = [0x66, 0xf0, 0xf2, 0xf3];
const CMPXCHG_B = 1;
const X87 = { first: 0xd8, last: 0xdf, wait: 0x9b } as const;
const VEX: readonly number[] = [0xc4, 0xc5, 0x62];
/** Of the two-byte opcodes, those of MMX and SSE. */
const VECTOR_OPCODES: readonly (readonly [first: number, last: number])[] = [
  [0x10, 0x17],
  [0x28, 0x2f],
  [0x50, 0x7f],
  [0xc2, 0xc2],
  [0xc4, 0xc6],
  [0xd0, 0xff],
];
const ALWAYS = "the host's KVM does not know this instruction; hide the feature from the guest";
const XSAVE = `${ALWAYS}: --cpu host,-xsave (and for Linux, in case the host offers it all the same, noxsave in --kernel-args)`;
const INTERPRETED = "the host's KVM interprets ring 0 (apiary doctor lists what that lacks)";
const VECTORS = `${INTERPRETED} without x87, MMX, SSE and AVX, and no --cpu hides them: a guest whose kernel does without (-mgeneral-regs-only), or a host with VMX or SVM`;
const PAGING = `${INTERPRETED} and refuses this value of a control register: it has no 32-bit paging without PAE; a guest that uses PAE or long mode, or a host with VMX or SVM`;
const HYPERCALL = `${INTERPRETED} and takes no hypercalls from there: hide what the guest makes them for: --cpu host,-kvm_pv_ipi,-kvm_pv_unhalt,-kvm_pv_sched_yield`;

/** @param bytes the instruction, with or without what follows it; empty when unknown */
export function instructionAdvice(bytes: Uint8Array): string {
  let at = 0;
  while (isPrefix(bytes[at])) at++;
  const [first, opcode, modrm] = bytes.subarray(at);
  if (first === X87.wait || (first >= X87.first && first <= X87.last) || VEX.includes(first)) return VECTORS;
  if (first !== TWO_BYTES) return generic();
  if (opcode === MOV_TO_CR) return PAGING;
  if (opcode === GROUP_7 && HYPERCALLS.includes(modrm)) return HYPERCALL;
  const inMemory = modrm >>> 6 !== 3;
  const extension = (modrm >>> 3) & 7;
  if (opcode === GROUP_9 && inMemory && extension === CMPXCHG_B) return `${ALWAYS}: --cpu host,-cx16`;
  if (opcode === GROUP_9 && inMemory && extension >= 3 && extension <= 5) return XSAVE;
  if (opcode === GROUP_15 && inMemory && extension >= 4 && extension <= 6) return XSAVE;
  if (VECTOR_OPCODES.some(([low, high]) => opcode >= low && opcode <= high)) return VECTORS;
  return generic();
}

const generic = (): string => `${ALWAYS} by its name, e.g. --cpu host,-cx16,-xsave`;

/** False past the end. */
function isPrefix(byte: number | undefined): boolean {
  return byte !== undefined && (PREFIXES.includes(byte) || (byte >= REX.first && byte <= REX.last));
}
