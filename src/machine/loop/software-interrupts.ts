/**
 * INT3 and INT n on a host whose KVM gives up on them. KVM interprets guest instructions in software where it must (all of
 * ring 0 on a host without VMX and SVM), and its interpreter has software interrupts in real mode only: in protected mode
 * the run ends with KVM_EXIT_INTERNAL_ERROR (emulate_int in arch/x86/kvm/emulate.c). Delivering the event is no trouble to
 * KVM, so it is queued here as KVM itself queues one, with RIP after the instruction. Linux needs it: it patches its code
 * by way of INT3, and tests that at boot.
 *
 * Left out: INTO, INT1 and prefixes, and software interrupts from ring 3 (which such a host runs natively), since the
 * gate's privilege level is not looked at.
 */
import { ExitReason, InternalError } from '../../kvm/constants.ts';
import type { Cpu } from './cpu.ts';

const INT3 = 0xcc;
const INT_N = 0xcd;
const BREAKPOINT = 3;
const PRIVILEGE_LEVEL = 3;

/** @returns whether the exit was one of those; the vCPU may then run on. */
export function deliverSoftwareInterrupt({ vcpu, run, interrupts }: Cpu): boolean {
  if (run.exitReason !== ExitReason.INTERNAL_ERROR || run.internalSuberror !== InternalError.EMULATION) return false;
  const [opcode, vector] = run.internalInstructionBytes();
  if (opcode !== INT3 && (opcode !== INT_N || vector === undefined)) return false;
  if ((vcpu.getSregs().cs.selector & PRIVILEGE_LEVEL) !== 0) return false;
  const regs = vcpu.getRegs();
  const events = vcpu.getVcpuEvents();
  if (opcode === INT3) {
    const exception = { ...events.exception, injected: 1, nr: BREAKPOINT, hasErrorCode: 0, errorCode: 0, pending: 0 };
    vcpu.setVcpuEvents({ ...events, exception });
    vcpu.setRegs({ ...regs, rip: regs.rip + 1n });
  } else {
    vcpu.setVcpuEvents({ ...events, interrupt: { ...events.interrupt, injected: 1, nr: vector, soft: 1 } });
    vcpu.setRegs({ ...regs, rip: regs.rip + 2n });
  }
  interrupts.eventQueued();
  return true;
}
