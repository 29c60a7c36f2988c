/**
 * What to try when KVM's interpreter does not know an instruction (KVM_EXIT_INTERNAL_ERROR): from the few that guests meet
 * on a host without VMX and SVM. Such a host runs ring 3 natively, and therefore may go on offering in CPUID what ring 3
 * can use, whatever `--cpu` says. Encodings: SDM vol. 2.
 */

const TWO_BYTES = 0x0f;
const GROUP_9 = 0xc7;
const GROUP_15 = 0xae;
const REX = { first: 0x40, last: 0x4f } as const;
const PREFIXES: readonly number[] = [0x66, 0xf0, 0xf2, 0xf3];
const CMPXCHG_B = 1;
const ALWAYS = "the host's KVM does not know this instruction; hide the feature from the guest";
const XSAVE = `${ALWAYS}: --cpu host,-xsave (and for Linux, in case the host offers it all the same, noxsave in --kernel-args)`;

/** @param bytes the instruction, with or without what follows it; empty when unknown */
export function instructionAdvice(bytes: Uint8Array): string {
  let at = 0;
  const isPrefix = (byte: number): boolean => PREFIXES.includes(byte) || (byte >= REX.first && byte <= REX.last);
  while (at < bytes.length && isPrefix(bytes[at])) at++;
  const [first, opcode, modrm] = bytes.subarray(at);
  const inMemory = modrm >>> 6 !== 3;
  const extension = (modrm >>> 3) & 7;
  if (first === TWO_BYTES && modrm !== undefined && inMemory) {
    if (opcode === GROUP_9 && extension === CMPXCHG_B) return `${ALWAYS}: --cpu host,-cx16`;
    if (opcode === GROUP_9 && extension >= 3 && extension <= 5) return XSAVE;
    if (opcode === GROUP_15 && extension >= 4 && extension <= 6) return XSAVE;
  }
  return `${ALWAYS} by its name, e.g. --cpu host,-cx16,-xsave`;
}
