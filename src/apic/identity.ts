/**
 * Who an APIC is to the others: present or not, its mode, its IDs. The map build and the scan read these records, from any
 * thread; the owner alone writes them, with `publishIdentity`, whenever a register that they come from has changed.
 * `r` is the first word of a record.
 */
import { BASE, logicalIdField, SPIV, xapicIdField } from './fields.ts';
import { type BlockWord, CONTROL, IDENTITY, type RecordWord } from './layout.ts';
import { REG } from './registers.ts';

const FLAG = { PRESENT: 1, X2APIC: 2, SOFTWARE_ENABLED: 4 } as const;
const ENABLED = FLAG.PRESENT | FLAG.SOFTWARE_ENABLED;
const ID_WORD = REG.ID >>> 2;
const LDR_WORD = REG.LDR >>> 2;
const DFR_WORD = REG.DFR >>> 2;
const SPIV_WORD = REG.SPIV >>> 2;

/** kvm_apic_present: enabled in IA32_APIC_BASE. */
export const isPresent = (words: Int32Array, r: RecordWord): boolean =>
  (words[r + IDENTITY.FLAGS] & FLAG.PRESENT) !== 0;

/** apic_x2apic_mode. */
export const isX2apicMode = (words: Int32Array, r: RecordWord): boolean =>
  (words[r + IDENTITY.FLAGS] & FLAG.X2APIC) !== 0;

/** kvm_apic_sw_enabled: SPIV bit 8. */
export const isSoftwareEnabled = (words: Int32Array, r: RecordWord): boolean =>
  (words[r + IDENTITY.FLAGS] & FLAG.SOFTWARE_ENABLED) !== 0;

/** apic_enabled: both of them. */
export const isEnabled = (words: Int32Array, r: RecordWord): boolean =>
  (words[r + IDENTITY.FLAGS] & ENABLED) === ENABLED;

/** kvm_x2apic_id: KVM's vcpu_id. A guest cannot change it. */
export const x2apicId = (words: Int32Array, r: RecordWord): number => words[r + IDENTITY.APIC_ID];

/** kvm_xapic_id: the ID register's top byte. A guest may write it. */
export const xapicId = (words: Int32Array, r: RecordWord): number => words[r + IDENTITY.XAPIC_ID];

export const logicalDestination = (words: Int32Array, r: RecordWord): number => words[r + IDENTITY.LDR];
export const xapicLogicalId = (words: Int32Array, r: RecordWord): number => logicalIdField(words[r + IDENTITY.LDR]);
export const destinationFormat = (words: Int32Array, r: RecordWord): number => words[r + IDENTITY.DFR];

/** Copies what the registers of block `a` say. All but the APIC ID, which never changes. */
export function publishIdentity(words: Int32Array, r: RecordWord, a: BlockWord): void {
  const baseLow = words[a + CONTROL.BASE_LOW];
  words[r + IDENTITY.FLAGS] =
    ((baseLow & BASE.ENABLE) !== 0 ? FLAG.PRESENT : 0) |
    ((baseLow & BASE.EXTD) !== 0 ? FLAG.X2APIC : 0) |
    ((words[a + SPIV_WORD] & SPIV.ENABLE) !== 0 ? FLAG.SOFTWARE_ENABLED : 0);
  words[r + IDENTITY.XAPIC_ID] = xapicIdField(words[a + ID_WORD]);
  words[r + IDENTITY.LDR] = words[a + LDR_WORD];
  words[r + IDENTITY.DFR] = words[a + DFR_WORD];
}
