/**
 * Who an APIC is to the others: present or not, its mode, its IDs. Read by the map build and by the scan, from any thread;
 * written by the owner alone. `a` is the first word of the APIC's block.
 */
import { BASE, logicalIdField, SPIV, xapicIdField } from './fields.ts';
import { CONTROL } from './layout.ts';
import { REG } from './registers.ts';

const ID = REG.ID >>> 2;
const LDR = REG.LDR >>> 2;
const DFR = REG.DFR >>> 2;
const SPURIOUS = REG.SPIV >>> 2;

/** kvm_apic_present: enabled in IA32_APIC_BASE. */
export const isPresent = (words: Int32Array, a: number): boolean => (words[a + CONTROL.BASE_LOW] & BASE.ENABLE) !== 0;

/** apic_x2apic_mode. */
export const isX2apicMode = (words: Int32Array, a: number): boolean => (words[a + CONTROL.BASE_LOW] & BASE.EXTD) !== 0;

/** kvm_apic_sw_enabled: SPIV bit 8. */
export const isSoftwareEnabled = (words: Int32Array, a: number): boolean => (words[a + SPURIOUS] & SPIV.ENABLE) !== 0;

/** kvm_x2apic_id: KVM's vcpu_id. A guest cannot change it. */
export const x2apicId = (words: Int32Array, a: number): number => words[a + CONTROL.APIC_ID];

/** kvm_xapic_id: the register's top byte. A guest may write it. */
export const xapicId = (words: Int32Array, a: number): number => xapicIdField(words[a + ID]);

export const logicalDestination = (words: Int32Array, a: number): number => words[a + LDR];
export const xapicLogicalId = (words: Int32Array, a: number): number => logicalIdField(words[a + LDR]);
export const destinationFormat = (words: Int32Array, a: number): number => words[a + DFR];
