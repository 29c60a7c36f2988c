/**
 * The local APIC's registers: name, offset, access in each mode, writable bits.
 *
 * Offsets are bytes inside the 4 KiB APIC page (SDM vol. 3A, 12.4.1, table 12-1; AMD APM vol. 2, 16.3.2). An x2APIC MSR is
 * 0x800 + (offset >> 4) (SDM vol. 3A, 12.12.1.2, table 12-6), so one index, `offset >> 4`, serves both doors. The access
 * columns say what KVM does (arch/x86/kvm/lapic.c, kvm_lapic_readable_reg_mask and kvm_lapic_reg_write), which is not
 * always what the manual says: see README.md, errata.
 * Left out on purpose: AMD's extended APIC space (0x400 and up), which KVM does not have either.
 */

/** Byte offsets. ISR, TMR and IRR are the first of eight registers, 16 bytes apart, 32 vectors each. */
export const REG = {
  ID: 0x020,
  VERSION: 0x030,
  TPR: 0x080,
  APR: 0x090,
  PPR: 0x0a0,
  EOI: 0x0b0,
  LDR: 0x0d0,
  DFR: 0x0e0,
  SPIV: 0x0f0,
  ISR: 0x100,
  TMR: 0x180,
  IRR: 0x200,
  ESR: 0x280,
  LVT_CMCI: 0x2f0,
  ICR: 0x300,
  ICR2: 0x310,
  LVT_TIMER: 0x320,
  LVT_THERMAL: 0x330,
  LVT_PERFORMANCE: 0x340,
  LVT_LINT0: 0x350,
  LVT_LINT1: 0x360,
  LVT_ERROR: 0x370,
  TMICT: 0x380,
  TMCCT: 0x390,
  TDCR: 0x3e0,
  SELF_IPI: 0x3f0,
} as const;

/** The bytes that KVM_GET_LAPIC and KVM_SET_LAPIC move, and the length of the page that a guest sees. */
export const STATE_BYTES = 1024;
/** Bytes of the page in which the registers are mapped. */
export const PAGE_BYTES = 4096;

/** `offset >> 4` of each register, as the write dispatch uses it. */
export const registerIndex = (offset: number): number => offset >>> 4;
export const REGISTER_COUNT = STATE_BYTES >>> 4;

/** MSRs of the local APIC (SDM vol. 3A, 12.12.1.2): x2APIC register at byte offset o is X2APIC_FIRST + (o >> 4). */
export const MSR = {
  APIC_BASE: 0x1b,
  TSC_DEADLINE: 0x6e0,
  X2APIC_FIRST: 0x800,
  X2APIC_LAST: 0x8ff,
} as const;

/** Register offset of an x2APIC MSR. */
export const msrOffset = (msr: number): number => (msr - MSR.X2APIC_FIRST) << 4;

/** A row of the register table: where it is, who may do what to it in which mode, and what of it can be written. */
export interface RegisterInfo {
  readonly name: string;
  readonly offset: number;
  /** What each door allows: '' nothing, 'r', 'w' or 'rw'. In xAPIC mode a refused access does nothing; in x2APIC mode it is #GP. */
  readonly xapic: '' | 'r' | 'w' | 'rw';
  readonly x2apic: '' | 'r' | 'w' | 'rw';
  /** Bits that a write keeps. */
  readonly writable: number;
  /** Bits that read as one whatever was written. */
  readonly ones: number;
}

const LVT_COMMON = 0x000110ff; // mask, delivery status, vector
const LVT_MODE = 0x00000700; // delivery mode
const LINT_BITS = 0x0000e000; // trigger mode, remote IRR, polarity

type Access = RegisterInfo['xapic'];

/** `access` in xAPIC mode, then in x2APIC mode. */
const entry = (
  name: string,
  offset: number,
  [xapic, x2apic]: readonly [Access, Access],
  { writable = 0, ones = 0 } = {},
): RegisterInfo => ({ name, offset, xapic, x2apic, writable, ones });

const bank = (name: string, first: number): RegisterInfo[] =>
  Array.from({ length: 8 }, (_, i) => entry(`${name}${i}`, first + (i << 4), ['r', 'r']));

/** Every register, in order of offset. */
export const REGISTERS: readonly RegisterInfo[] = [
  entry('ID', REG.ID, ['rw', 'r'], { writable: 0xff000000 }),
  entry('VERSION', REG.VERSION, ['r', 'r']),
  entry('TPR', REG.TPR, ['rw', 'rw'], { writable: 0xff }),
  entry('APR', REG.APR, ['r', '']),
  entry('PPR', REG.PPR, ['r', 'r']),
  entry('EOI', REG.EOI, ['w', 'w']),
  entry('LDR', REG.LDR, ['rw', 'r'], { writable: 0xff000000 }),
  entry('DFR', REG.DFR, ['rw', ''], { writable: 0xffffffff, ones: 0x0fffffff }),
  entry('SPIV', REG.SPIV, ['rw', 'rw'], { writable: 0x3ff }), // and bit 12 where the version register offers it
  ...bank('ISR', REG.ISR),
  ...bank('TMR', REG.TMR),
  ...bank('IRR', REG.IRR),
  entry('ESR', REG.ESR, ['rw', 'rw']), // KVM records no error: writes change nothing
  entry('LVT_CMCI', REG.LVT_CMCI, ['rw', 'rw'], { writable: LVT_COMMON | LVT_MODE }), // only with MCG_CMCI_P
  entry('ICR', REG.ICR, ['rw', 'rw'], { writable: 0xffffefff }), // all but BUSY; 64 bits in x2APIC mode
  entry('ICR2', REG.ICR2, ['rw', ''], { writable: 0xff000000 }),
  entry('LVT_TIMER', REG.LVT_TIMER, ['rw', 'rw'], { writable: LVT_COMMON }), // and the timer mode bits that CPUID offers
  entry('LVT_THERMAL', REG.LVT_THERMAL, ['rw', 'rw'], { writable: LVT_COMMON | LVT_MODE }),
  entry('LVT_PERFORMANCE', REG.LVT_PERFORMANCE, ['rw', 'rw'], { writable: LVT_COMMON | LVT_MODE }),
  entry('LVT_LINT0', REG.LVT_LINT0, ['rw', 'rw'], { writable: LVT_COMMON | LVT_MODE | LINT_BITS }),
  entry('LVT_LINT1', REG.LVT_LINT1, ['rw', 'rw'], { writable: LVT_COMMON | LVT_MODE | LINT_BITS }),
  entry('LVT_ERROR', REG.LVT_ERROR, ['rw', 'rw'], { writable: LVT_COMMON }),
  entry('TMICT', REG.TMICT, ['rw', 'rw'], { writable: 0xffffffff }),
  entry('TMCCT', REG.TMCCT, ['r', 'r']),
  entry('TDCR', REG.TDCR, ['rw', 'rw'], { writable: 0xb }),
  entry('SELF_IPI', REG.SELF_IPI, ['', 'w'], { writable: 0xff }),
];

const ACCESS = { XAPIC_READ: 1, X2APIC_READ: 2 } as const;

/** Access bits and masks by `offset >> 4`: what the hot paths look at instead of the objects above. */
const ACCESS_BITS = new Uint8Array(REGISTER_COUNT);
const WRITABLE_BITS = new Int32Array(REGISTER_COUNT);
const ONE_BITS = new Int32Array(REGISTER_COUNT);
for (const { offset, xapic, x2apic, writable, ones } of REGISTERS) {
  const index = registerIndex(offset);
  ACCESS_BITS[index] =
    (xapic.startsWith('r') ? ACCESS.XAPIC_READ : 0) | (x2apic.startsWith('r') ? ACCESS.X2APIC_READ : 0);
  WRITABLE_BITS[index] = writable;
  ONE_BITS[index] = ones;
}

/** May this register be read in this mode? `index` is 0-63. */
export function isReadable(index: number, x2apicMode: boolean): boolean {
  return (ACCESS_BITS[index] & (x2apicMode ? ACCESS.X2APIC_READ : ACCESS.XAPIC_READ)) !== 0;
}

/** What the register holds after `value` was written to it, as a 32-bit integer. */
export function maskWrite(index: number, value: number): number {
  return (value & WRITABLE_BITS[index]) | ONE_BITS[index];
}

/** The local vector table, in KVM's order (enum lapic_lvt_entry). CMCI is last and optional. */
export const LVT_OFFSETS = [
  REG.LVT_TIMER,
  REG.LVT_THERMAL,
  REG.LVT_PERFORMANCE,
  REG.LVT_LINT0,
  REG.LVT_LINT1,
  REG.LVT_ERROR,
  REG.LVT_CMCI,
] as const;
