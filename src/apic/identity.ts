/**
 * Who an APIC is to the others: present or not, its mode, its IDs. The map build and the scan read these records, from any
 * thread; the owner alone writes them, with `publishIdentity`, whenever a register that they come from has changed.
 * `r` is the first word of a record.
 */
import { BASE, logicalIdField, SPIV, xapicIdField } from './fields.ts';
import { IDENTITY } from './layout.ts';

const FLAG = { PRESENT: 1, X2APIC: 2, SOFTWARE_ENABLED: 4 } as const;
const ENABLED = FLAG.PRESENT | FLAG.SOFTWARE_ENABLED;

/** kvm_apic_present: enabled in IA32_APIC_BASE. */
export const isPresent = (words: Int32Array, r: number): boolean => (words[r + IDENTITY.FLAGS] & FLAG.PRESENT) !== 0;

/** apic_x2apic_mode. */
export const isX2apicMode = (words: Int32Array, r: number): boolean => (words[r + IDENTITY.FLAGS] & FLAG.X2APIC) !== 0;

/** kvm_apic_sw_enabled: SPIV bit 8. */
export const isSoftwareEnabled = (words: Int32Array, r: number): boolean =>
  (words[r + IDENTITY.FLAGS] & FLAG.SOFTWARE_ENABLED) !== 0;

/** apic_enabled: both of them. */
export const isEnabled = (words: Int32Array, r: number): boolean => (words[r + IDENTITY.FLAGS] & ENABLED) === ENABLED;

/** kvm_x2apic_id: KVM's vcpu_id. A guest cannot change it. */
export const x2apicId = (words: Int32Array, r: number): number => words[r + IDENTITY.APIC_ID];

/** kvm_xapic_id: the ID register's top byte. A guest may write it. */
export const xapicId = (words: Int32Array, r: number): number => words[r + IDENTITY.XAPIC_ID];

export const logicalDestination = (words: Int32Array, r: number): number => words[r + IDENTITY.LDR];
export const xapicLogicalId = (words: Int32Array, r: number): number => logicalIdField(words[r + IDENTITY.LDR]);
export const destinationFormat = (words: Int32Array, r: number): number => words[r + IDENTITY.DFR];

/** Copies what the registers say. All but the APIC ID, which never changes. */
export function publishIdentity(
  words: Int32Array,
  r: number,
  baseLow: number,
  id: number,
  ldr: number,
  dfr: number,
  spiv: number,
): void {
  words[r + IDENTITY.FLAGS] =
    ((baseLow & BASE.ENABLE) !== 0 ? FLAG.PRESENT : 0) |
    ((baseLow & BASE.EXTD) !== 0 ? FLAG.X2APIC : 0) |
    ((spiv & SPIV.ENABLE) !== 0 ? FLAG.SOFTWARE_ENABLED : 0);
  words[r + IDENTITY.XAPIC_ID] = xapicIdField(id);
  words[r + IDENTITY.LDR] = ldr;
  words[r + IDENTITY.DFR] = dfr;
}
