/**
 * Bit fields of the APIC's registers and of an MSI, one small pure function each under a bit diagram, so that no shift or
 * mask appears in the logic. Sources: SDM vol. 3A, chapter 12 (figures named below); AMD APM vol. 2, chapter 16.
 * Values are 32-bit integers, signed or not; a function that returns a quantity returns it unsigned.
 */

/* IA32_APIC_BASE (SDM 12.4.4, figure 12-5), low word; the base continues in the high word.
 *
 *   31                                   12  11   10   9   8   7                0
 *  +---------------------------------------+----+----+---+---+-------------------+
 *  | APIC base, bits 31:12                 | EN |EXTD| 0 |BSP| reserved          |
 *  +---------------------------------------+----+----+---+---+-------------------+
 */
export const BASE = {
  BSP: 1 << 8,
  EXTD: 1 << 10,
  ENABLE: 1 << 11,
  RESERVED_LOW: 0x2ff,
  DEFAULT_LOW: 0xfee00000 | 0,
} as const;
/** IA32_APIC_BASE bits 11:10 in words (SDM vol. 3A, 12.12.1); `invalid` is EXTD without EN. */
export type ApicMode = 'disabled' | 'xapic' | 'x2apic' | 'invalid';
export const baseMode = (low: number): number => low & (BASE.ENABLE | BASE.EXTD);
export const baseAddressLow = (low: number): number => (low & 0xfffff000) >>> 0;
/** The same as the bits of IA32_APIC_BASE, in place. */
export const MODE = { DISABLED: 0, INVALID: BASE.EXTD, XAPIC: BASE.ENABLE, X2APIC: BASE.ENABLE | BASE.EXTD } as const;
export const modeName = (mode: number): ApicMode =>
  mode === MODE.X2APIC ? 'x2apic' : mode === MODE.XAPIC ? 'xapic' : mode === MODE.DISABLED ? 'disabled' : 'invalid';

/* ID and LDR (SDM 12.4.6, 12.6.2.2): bits 31:24 in xAPIC mode, all 32 in x2APIC mode.
 * The x2APIC logical ID (SDM 12.12.10.2): cluster (x2APIC ID bits 31:4) << 16 | one bit of 16.
 */
export const xapicIdField = (register: number): number => register >>> 24;
export const makeXapicId = (id: number): number => id << 24;
export const logicalIdField = (ldr: number): number => ldr >>> 24;
export const x2apicLogicalId = (id: number): number => ((id >>> 4) << 16) | (1 << (id & 0xf));
export const x2apicCluster = (logical: number): number => logical >>> 16;
export const x2apicClusterMembers = (logical: number): number => logical & 0xffff;
export const flatMembers = (logical: number): number => logical & 0xff;
export const xapicCluster = (logical: number): number => logical >>> 4;
export const xapicClusterMembers = (logical: number): number => logical & 0xf;
export const XAPIC_CLUSTER_MASK = 0xf;

/* DFR (SDM 12.6.2.2, figure 12-14): the model in bits 31:28, the rest ones: a guest's writes leave nothing else there. */
/** The two values of the destination format register that mean something (SDM vol. 3A, 12.6.2.2). */
export const DFR = { FLAT: -1, CLUSTER: 0x0fffffff } as const;

/* Spurious vector register (SDM 12.9, figure 12-23):  12 suppress EOI broadcast | 9 focus | 8 enable | 7:0 vector */
/** Bits of the spurious-interrupt vector register (SDM vol. 3A, 12.9), and its value after reset. */
export const SPIV = { ENABLE: 1 << 8, SUPPRESS_EOI_BROADCAST: 1 << 12, RESET: 0xff } as const;

/* Version register (SDM 12.4.8):  24 EOI-broadcast suppression | 23:16 last LVT entry | 7:0 version */
export const VERSION = { NUMBER: 0x14, EOI_SUPPRESSION: 1 << 24 } as const;
export const makeVersion = (lvtEntries: number, suppression: boolean): number =>
  VERSION.NUMBER | ((lvtEntries - 1) << 16) | (suppression ? VERSION.EOI_SUPPRESSION : 0);

/* Local vector table entry (SDM 12.5.1, figure 12-8)
 *
 *   31      19 18   17   16    15     14    13     12   11 10    8 7         0
 *  +----------+---------+----+-------+-----+------+------+--+-------+-----------+
 *  | reserved | timer   |mask|trigger|remot|polari|status|  |deliver| vector    |
 *  |          | mode    |    |(level)| IRR |ty    |      |  |y mode |           |
 *  +----------+---------+----+-------+-----+------+------+--+-------+-----------+
 */
/** Bits of the local vector table's entries (SDM vol. 3A, 12.5.1), and what KVM puts into the boot CPU's LINT0. */
export const LVT = { MASKED: 1 << 16, LEVEL: 1 << 15, RESET_BSP_LINT0: 0x700 } as const;
export const isLvtMasked = (lvt: number): boolean => (lvt & LVT.MASKED) !== 0;
/** Bits 18:17 of the timer's LVT entry, in place (SDM vol. 3A, 12.5.4). */
export const TIMER_MODE = { ONE_SHOT: 0, PERIODIC: 1 << 17, TSC_DEADLINE: 2 << 17, MASK: 3 << 17 } as const;

/* Interrupt command register, low word (SDM 12.6.1, figure 12-12; x2APIC: figure 12-28), which is also the layout of a
 * message's command. LVT entries and MSI data have vector, delivery mode and trigger mode at the same bits.
 *
 *   31      21  20  19   18 17 16   15     14    13   12   11   10    8 7         0
 *  +----------+----+-------+-----+-------+-----+---+------+----+--------+-----------+
 *  | reserved |hint|short- |resvd|trigger|level| r | BUSY |log.| deliv. | vector    |
 *  |          |    |hand   |     |(level)|asser|   |      |dest| mode   |           |
 *  +----------+----+-------+-----+-------+-----+---+------+----+--------+-----------+
 *
 * Bit 20 is reserved in ICR. In a command it is an MSI's redirection hint, whose own place is a bit of the address. What a
 * guest writes there (xAPIC mode stores it) is not part of a command, nor are BUSY and the other reserved bits.
 */
/** Bits of the ICR's low word that are no part of a message (SDM vol. 3A, 12.6.1). */
export const ICR = { BUSY: 1 << 12, X2APIC_RESERVED: 0xfff32000 | 0, SELF: 1 << 18 } as const;
/**
 * Bits of a message's command word beside vector (7:0) and delivery mode (10:8): those of the ICR's low word, and
 * HINT, an MSI's redirection hint.
 */
export const COMMAND = { LOGICAL: 1 << 11, ASSERT: 1 << 14, LEVEL: 1 << 15, HINT: 1 << 20 } as const;
const DELIVERY_MODE = 7 << 8;
const ICR_COMMAND = 0xccfff; // everything but reserved bits and BUSY
const SHARED_COMMAND = 0x87ff; // what an LVT entry and MSI data have of it: trigger mode, delivery mode, vector
export const commandVector = (command: number): number => command & 0xff;
export const commandMode = (command: number): number => (command & DELIVERY_MODE) >>> 8;
export const isLogical = (command: number): boolean => (command & COMMAND.LOGICAL) !== 0;
export const isAsserted = (command: number): boolean => (command & COMMAND.ASSERT) !== 0;
export const isLevel = (command: number): boolean => (command & COMMAND.LEVEL) !== 0;
export const hasHint = (command: number): boolean => (command & COMMAND.HINT) !== 0;
export const commandShorthand = (command: number): number => (command >>> 18) & 3;
/** The same with delivery mode fixed. A redirection hint stays. */
export const asFixed = (command: number): number => command & ~DELIVERY_MODE;
/** The same, to everyone that it addresses: nobody is picked. */
export const asAddressed = (command: number): number => command & ~(DELIVERY_MODE | COMMAND.HINT);
/** Is one of several to be picked? kvm_lowest_prio_delivery. */
export const isLowestPriority = (command: number): boolean =>
  (command & DELIVERY_MODE) === DELIVERY.LOWEST << 8 || hasHint(command);
export const ipiCommand = (icrLow: number): number => icrLow & ICR_COMMAND;
/** A local interrupt is always asserted, as an MSI is. */
export const lvtCommand = (lvt: number): number => (lvt & SHARED_COMMAND) | COMMAND.ASSERT;
export const xapicDestination = (high: number): number => high >>> 24;
/** Bits 19:18 of the ICR, as a number (SDM vol. 3A, 12.6.1). */
export const SHORTHAND = { NONE: 0, SELF: 1, ALL: 2, ALL_BUT_SELF: 3 } as const;

/** Delivery modes (SDM 12.6.1). 3 is reserved there; KVM calls it remote read and wakes a halted vCPU with it. */
export const DELIVERY = {
  FIXED: 0,
  LOWEST: 1,
  SMI: 2,
  REMOTE_READ: 3,
  NMI: 4,
  INIT: 5,
  STARTUP: 6,
  EXTINT: 7,
} as const;
/** The names of the delivery modes, by number; `DELIVERY` has the numbers. */
export const DELIVERY_NAMES = ['fixed', 'lowest', 'smi', 'remote-read', 'nmi', 'init', 'startup', 'extint'] as const;

/** Destinations that mean everyone, by the mode of whoever compares. */
export const BROADCAST = { XAPIC: 0xff, X2APIC: 0xffffffff } as const;

/* MSI (SDM 12.11.1, 12.11.2)
 *  address low   31:20 0xfee | 19:12 destination | 3 redirection hint | 2 logical
 *  address high  31:8 destination bits 31:8 (KVM's extension under KVM_X2APIC_API_USE_32BIT_IDS) | 7:0 must be zero then
 *  data          15 level | 14 assert, not looked at | 10:8 delivery mode | 7:0 vector
 */
export const msiDestination = (addressLow: number): number => (addressLow >>> 12) & 0xff;
export const msiWideDestination = (addressHigh: number): number => (addressHigh & 0xffffff00) >>> 0;
export const msiWideReserved = (addressHigh: number): boolean => (addressHigh & 0xff) !== 0;
const MSI_LOGICAL_TO_COMMAND = 9; // address bit 2 to command bit 11
const MSI_HINT_TO_COMMAND = 17; // address bit 3 to command bit 20
export const msiCommand = (addressLow: number, data: number): number =>
  (data & SHARED_COMMAND) |
  COMMAND.ASSERT |
  ((addressLow & 4) << MSI_LOGICAL_TO_COMMAND) |
  ((addressLow & 8) << MSI_HINT_TO_COMMAND);

/* Divide configuration (SDM 12.5.4, figure 12-10): bits 3, 1 and 0; 0b111 divides by 1, 0b000 by 2, ... 0b110 by 128. */
export const timerDivisor = (tdcr: number): number => 1 << ((((tdcr & 3) | ((tdcr & 8) >>> 1)) + 1) & 7);

/* Priority classes (SDM 12.8.3.1): bits 7:4 of TPR, PPR and vectors. CR8 is the class of TPR. */
export const priorityClass = (value: number): number => value & 0xf0;
export const cr8ToTpr = (cr8: number): number => (cr8 & 0xf) << 4;
export const tprToCr8 = (tpr: number): number => (tpr & 0xf0) >>> 4;
