/**
 * A vCPU as plain objects, and back: KVM's registers and events, and what the run loop keeps. The local APIC, inbox and timer
 * included, is saved by its own class; with KVM's, its page and mode are here. On the home worker, outside KVM_RUN.
 *
 * Left out: AVX and later state, for which the bindings have no call yet (KVM_GET_XSAVE); what Hyper-V's MSRs hold.
 */
import type { Debugregs, Fpu, Msr, Regs, Sregs, VcpuEvents, Xcr } from '../../kvm/index.ts';
import type { DevicePort } from '../shared/mailbox.ts';
import type { Cpu, LoopState } from './cpu.ts';
import { IA32_TSC, type ResetState } from './cpu-state.ts';
import { enterGuest, Left } from './enter.ts';
import { type EndMachine, handleExit } from './exits.ts';

const IA32_APIC_BASE = 0x1b;
const IA32_TSC_DEADLINE = 0x6e0;
/** More exits than one instruction can make: KVM looks up from a string instruction after 1,024 elements. */
const MAX_PIECES = 4096;

export interface CpuState {
  readonly regs: Regs;
  readonly sregs: Sregs;
  readonly events: VcpuEvents;
  readonly debugregs: Debugregs;
  readonly fpu: Fpu;
  readonly xcrs: readonly Xcr[];
  /** The TSC last: it stands still while a state is kept. */
  readonly msrs: readonly Msr[];
  readonly loop: LoopState;
  /** With KVM's own APIC. */
  readonly kernelApic?: { readonly page: Uint8Array; readonly mpState: number; readonly msrs: readonly Msr[] };
}

/** What handles the exits that the last instruction still makes. */
export interface ExitHandling {
  readonly devices: DevicePort;
  readonly end: EndMachine;
}

/**
 * Finishes the instruction of the last exit, all its pieces handled, without running the guest: its registers are then those
 * of an instruction boundary.
 */
export function finishExit(cpu: Cpu, { devices, end }: ExitHandling): void {
  for (let piece = 0; piece < MAX_PIECES; piece++) {
    // The exit may have written TPR; KVM_RUN takes it from here, and what it leaves here becomes the APIC's.
    if (cpu.apic !== null) cpu.run.cr8 = cpu.apic.cr8;
    cpu.run.immediateExit = true;
    if (enterGuest(cpu) !== Left.exit) return;
    handleExit(cpu, devices, end);
  }
}

/** @param reset what it was captured as: says which MSRs this KVM has */
export function saveCpu(cpu: Cpu, reset: ResetState, handling: ExitHandling): CpuState {
  finishExit(cpu, handling);
  const { vcpu, interrupts, apic } = cpu;
  const msrs = [...reset.powerUpMsrs, ...reset.paravirtMsrs].map(({ index }) => index);
  return {
    regs: vcpu.getRegs(),
    sregs: vcpu.getSregs(),
    events: vcpu.getVcpuEvents(),
    debugregs: vcpu.getDebugregs(),
    fpu: vcpu.getFpu(),
    xcrs: vcpu.getXcrs(),
    msrs: vcpu.getMsrs([...msrs, IA32_TSC]),
    loop: interrupts.save(),
    ...(apic === null && {
      kernelApic: {
        page: vcpu.getLapic(),
        mpState: vcpu.getMpState(),
        msrs: vcpu.getMsrs([IA32_APIC_BASE, IA32_TSC_DEADLINE]),
      },
    }),
  };
}

/** Into a vCPU of the same machine configuration, whose local APIC (ours) has been restored. @throws KvmError */
export function restoreCpu(cpu: Cpu, state: CpuState, handling: ExitHandling): void {
  finishExit(cpu, handling);
  const { vcpu, interrupts } = cpu;
  const { kernelApic } = state;
  if (kernelApic) {
    vcpu.setMsrs(kernelApic.msrs.slice(0, 1)); // the mode before the page, the deadline after its LVT
    vcpu.setLapic(kernelApic.page);
    vcpu.setMsrs(kernelApic.msrs.slice(1));
  }
  vcpu.setSregs(state.sregs);
  vcpu.setRegs(state.regs);
  vcpu.setFpu(state.fpu);
  if (state.xcrs.length > 0) vcpu.setXcrs(state.xcrs);
  vcpu.setDebugregs(state.debugregs);
  vcpu.setMsrs(state.msrs);
  vcpu.setVcpuEvents(state.events);
  if (kernelApic) vcpu.setMpState(kernelApic.mpState);
  interrupts.restore(state.loop);
}
