/**
 * A vCPU's architectural state at the moments that the machine, not the guest, decides it: power-up and INIT, the start
 * by SIPI, and the boot CPU's entry into an image.
 *
 * Without an in-kernel APIC, KVM leaves INIT and SIPI to userspace: both are register writes here. The power-up state is
 * what KVM gives a fresh vCPU (SDM vol. 3A, table 11-1), read back once rather than written down again, and what firmware
 * would have done to it, since there is none. Left out: MXCSR, which KVM_SET_FPU does not take.
 */
import type { Segment as BootSegment, BootState, RegisterName } from '../../boot/index.ts';
import type { Debugregs, Fpu, Msr, Regs, Segment, Sregs, VcpuEvents, Xcr } from '../../kvm/index.ts';
import type { VcpuDescriptor, VcpuRun } from './vcpu-backend.ts';

const range = (first: number, last: number): number[] =>
  Array.from({ length: last - first + 1 }, (_, index) => first + index);

const CR0_CACHE_BITS = 0x6000_0000n; // CD and NW: INIT leaves them alone (SDM vol. 3A, table 11-1)
const RFLAGS_FIXED = 2n;
/** KVM answers a longer list with E2BIG. */
const MOST_MSRS = 256;
/** More exits than one instruction can make: KVM looks up from a string instruction after 1,024 elements. */
const MAX_PIECES = 4096;

/** KVM's paravirtual MSRs, which INIT clears (kvm_vcpu_reset): KVM must not write to memory that has a new owner. */
const PARAVIRT_MSRS: readonly number[] = [
  0x11, // wall clock and system time, at their first numbers
  0x12,
  0x4b56_4d00, // the same
  0x4b56_4d01,
  0x4b56_4d02, // asynchronous page faults
  0x4b56_4d03, // steal time
  0x4b56_4d04, // PV EOI
  0x4b56_4d06, // the vector of asynchronous page faults
];
/**
 * MSRs that power-up sets and INIT leaves alone (SDM vol. 3A, table 11-1), beside those in KVM's own list of what is worth
 * saving, from which some kernels leave these out. The banks of machine checks are no part of it: a reset keeps their story.
 */
const POWER_UP_MSRS: readonly number[] = [
  0x3b, // IA32_TSC_ADJUST
  0x48, // IA32_SPEC_CTRL
  0x140, // MISC_FEATURES_ENABLES
  0x174, // IA32_SYSENTER_CS, ESP, EIP
  0x175,
  0x176,
  0x1a0, // IA32_MISC_ENABLE
  0x1d9, // IA32_DEBUGCTL
  ...range(0x200, 0x20f), // MTRRs: bases and masks of the variable ranges, then the fixed ones
  0x250,
  0x258,
  0x259,
  ...range(0x268, 0x26f),
  0x277, // IA32_PAT
  0x2ff, // IA32_MTRR_DEF_TYPE
  0xda0, // IA32_XSS
  0xc000_0081, // STAR, LSTAR, CSTAR, FMASK
  0xc000_0082,
  0xc000_0083,
  0xc000_0084,
  0xc000_0102, // KERNEL_GS_BASE
  0xc000_0103, // TSC_AUX
  0x4b56_4d05, // KVM's halt polling
];
export const IA32_TSC = 0x10;
/** In KVM's list, but the APIC's, or set in a way of their own, or Hyper-V's and KVM's, which a write would turn on. */
const NOT_BY_VALUE: readonly { readonly first: number; readonly last: number }[] = [
  { first: IA32_TSC, last: 0x12 },
  { first: 0x1b, last: 0x1b }, // IA32_APIC_BASE
  { first: 0x6e0, last: 0x6e0 }, // IA32_TSC_DEADLINE
  { first: 0x800, last: 0x8ff }, // x2APIC
  { first: 0x4000_0000, last: 0x4fff_ffff },
];
/**
 * What firmware sets before a kernel starts. Without MTRRs on, memory is uncacheable (SDM vol. 3A 13.11.2.1) and Linux
 * leaves PAT alone; without fast strings, Linux copies without them.
 */
const FIRMWARE_MSRS = { miscEnable: 0x1a0, fastStrings: 1n, mtrrDefType: 0x2ff, enabledWriteBack: 0x806n } as const;

/** What a vCPU has that has never run. */
export interface ResetState {
  readonly regs: Regs;
  readonly sregs: Sregs;
  readonly events: VcpuEvents;
  readonly debugregs: Debugregs;
  readonly fpu: Fpu;
  /** Empty on a host without XSAVE. */
  readonly xcrs: readonly Xcr[];
  /** Those of the lists above that this KVM has. */
  readonly paravirtMsrs: readonly Msr[];
  readonly powerUpMsrs: readonly Msr[];
}

/**
 * Of a vCPU that has its CPUID, its firmware state and has not run.
 * @param savable KVM_GET_MSR_INDEX_LIST
 */
export function captureResetState(vcpu: VcpuDescriptor, savable: readonly number[]): ResetState {
  const byValue = savable.filter((index) => !NOT_BY_VALUE.some(({ first, last }) => index >= first && index <= last));
  return {
    regs: vcpu.getRegs(),
    sregs: vcpu.getSregs(),
    events: vcpu.getVcpuEvents(),
    debugregs: vcpu.getDebugregs(),
    fpu: vcpu.getFpu(),
    xcrs: vcpu.getXcrs(),
    paravirtMsrs: settableMsrs(vcpu, PARAVIRT_MSRS),
    powerUpMsrs: settableMsrs(vcpu, [...new Set([...POWER_UP_MSRS, ...byValue])]),
  };
}

/** Those that this KVM can read and takes back as it read them, asked for in lists that it takes (MAX_IO_MSRS). */
function settableMsrs(vcpu: VcpuDescriptor, indexes: readonly number[]): Msr[] {
  const readable: Msr[] = [];
  for (let next = 0; next < indexes.length; ) {
    const asked = indexes.slice(next, next + MOST_MSRS);
    const read = vcpu.getMsrsBeforeRefusal(asked);
    readable.push(...read);
    next += Math.min(read.length + 1, asked.length); // after the one that was refused, if one was
  }
  const settable: Msr[] = [];
  for (let next = 0; next < readable.length; ) {
    const asked = readable.slice(next, next + MOST_MSRS);
    const written = vcpu.setMsrsBeforeRefusal(asked);
    settable.push(...asked.slice(0, written));
    next += Math.min(written + 1, asked.length);
  }
  return settable;
}

/** For a vCPU that is new. A host that has no such MSR does without. */
export function applyFirmwareState(vcpu: VcpuDescriptor): void {
  const { miscEnable, fastStrings, mtrrDefType, enabledWriteBack } = FIRMWARE_MSRS;
  for (const [index, bits] of [
    [miscEnable, fastStrings],
    [mtrrDefType, enabledWriteBack],
  ] as const) {
    for (const { value } of settableMsrs(vcpu, [index])) vcpu.setMsrs([{ index, value: value | bits }]);
  }
}

/**
 * Finishes the instruction of the last exit and comes back without running the guest, so that KVM does not write its
 * result over registers that are set next. An access across a page, or a string instruction, exits in several pieces.
 */
export function completeExit(run: VcpuRun): void {
  for (let piece = 0; piece < MAX_PIECES; piece++) {
    run.immediateExit = true;
    if (run.run() !== 0) return;
  }
}

/**
 * INIT (SDM vol. 3A, table 11-1); after `completeExit`. FPU, XCR0 and most MSRs stay.
 * @param apicBase the value of IA32_APIC_BASE to keep in step with (INIT does not change it)
 */
export function applyInit(vcpu: VcpuDescriptor, reset: ResetState, apicBase: bigint): void {
  const cr0 = vcpu.getSregs().cr0;
  vcpu.setSregs({ ...reset.sregs, cr0: (reset.sregs.cr0 & ~CR0_CACHE_BITS) | (cr0 & CR0_CACHE_BITS), apicBase });
  vcpu.setRegs(reset.regs);
  vcpu.setVcpuEvents(reset.events);
  vcpu.setDebugregs(reset.debugregs);
  vcpu.setMsrs(reset.paravirtMsrs);
}

/**
 * Power-up, or reset of the machine; after `completeExit`. A TSC that the guest moved is in step with the other vCPUs' again:
 * KVM takes a host's 0 as that of a vCPU that is new (kvm_synchronize_tsc).
 * @param apicBase as for `applyInit`
 */
export function applyPowerUp(vcpu: VcpuDescriptor, reset: ResetState, apicBase: bigint): void {
  applyInit(vcpu, reset, apicBase);
  vcpu.setSregs({ ...reset.sregs, apicBase });
  vcpu.setFpu(reset.fpu);
  if (reset.xcrs.length > 0) vcpu.setXcrs(reset.xcrs);
  vcpu.setMsrs([...reset.powerUpMsrs, { index: IA32_TSC, value: 0n }]);
}

/** Start-up IPI: real mode at `vector << 12` (SDM vol. 3A 10.4.4.1). @param vector 0-255 */
export function applySipi(vcpu: VcpuDescriptor, vector: number): void {
  const sregs = vcpu.getSregs();
  vcpu.setSregs({ ...sregs, cs: { ...sregs.cs, selector: vector << 8, base: BigInt(vector) << 12n } });
  vcpu.setRegs({ ...vcpu.getRegs(), rip: 0n });
}

const asSegment = (segment: BootSegment, like: Segment): Segment => ({
  ...like,
  ...segment,
  base: BigInt(segment.base),
});

/** The boot CPU's state at an image's entry point. */
export function applyBootState(vcpu: VcpuDescriptor, boot: BootState): void {
  const sregs = vcpu.getSregs();
  const data = asSegment(boot.data, sregs.ds);
  vcpu.setSregs({
    ...sregs,
    cs: asSegment(boot.cs, sregs.cs),
    ds: data,
    es: data,
    fs: data,
    gs: data,
    ss: data,
    tr: asSegment(boot.tr, sregs.tr),
    gdt: { base: BigInt(boot.gdt.base), limit: boot.gdt.limit },
    cr0: BigInt(boot.cr0),
    cr3: BigInt(boot.cr3),
    cr4: BigInt(boot.cr4),
    efer: BigInt(boot.efer),
  });
  const registers: Partial<Regs> = {};
  for (const [name, value] of Object.entries(boot.registers)) registers[name as RegisterName] = BigInt(value);
  vcpu.setRegs({ ...vcpu.getRegs(), ...registers, rip: BigInt(boot.rip), rflags: RFLAGS_FIXED });
}
