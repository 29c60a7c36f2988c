/**
 * A vCPU's architectural state at the moments that the machine, not the guest, decides it: power-up and INIT, the start
 * by SIPI, and the boot CPU's entry into an image.
 *
 * Without an in-kernel APIC, KVM leaves INIT and SIPI to userspace: both are register writes here. The power-up state is
 * what KVM gives a fresh vCPU (SDM vol. 3A, table 10-1), read back once rather than written down again.
 */
import type { Segment as BootSegment, BootState, RegisterName } from '../boot/index.ts';
import type { KvmRun, Regs, Segment, Sregs, Vcpu, VcpuEvents } from '../kvm/index.ts';

const CR0_CACHE_BITS = 0x6000_0000n; // CD and NW: INIT leaves them alone (SDM vol. 3A, table 10-1)
const RFLAGS_FIXED = 2n;
/** More exits than one instruction can make: KVM looks up from a string instruction after 1,024 elements. */
const MAX_PIECES = 4096;

/** What KVM gives a vCPU that has never run. */
export interface ResetState {
  readonly regs: Regs;
  readonly sregs: Sregs;
  readonly events: VcpuEvents;
}

export function captureResetState(vcpu: Vcpu): ResetState {
  return { regs: vcpu.getRegs(), sregs: vcpu.getSregs(), events: vcpu.getVcpuEvents() };
}

/**
 * Finishes the instruction of the last exit and comes back without running the guest, so that KVM does not write its
 * result over registers that are set next. An access across a page, or a string instruction, exits in several pieces.
 */
export function completeExit(run: KvmRun): void {
  for (let piece = 0; piece < MAX_PIECES; piece++) {
    run.immediateExit = true;
    if (run.run() !== 0) return;
  }
}

/**
 * INIT, or power-up of a CPU that comes back; after `completeExit`.
 * @param apicBase the value of IA32_APIC_BASE to keep in step with (INIT does not change it)
 */
export function applyReset(vcpu: Vcpu, reset: ResetState, apicBase: bigint): void {
  const cr0 = vcpu.getSregs().cr0;
  vcpu.setSregs({ ...reset.sregs, cr0: (reset.sregs.cr0 & ~CR0_CACHE_BITS) | (cr0 & CR0_CACHE_BITS), apicBase });
  vcpu.setRegs(reset.regs);
  vcpu.setVcpuEvents(reset.events);
}

/** Start-up IPI: real mode at `vector << 12` (SDM vol. 3A 10.4.4.1). @param vector 0-255 */
export function applySipi(vcpu: Vcpu, vector: number): void {
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
export function applyBootState(vcpu: Vcpu, boot: BootState): void {
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
