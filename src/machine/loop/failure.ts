/**
 * What a person needs when a vCPU cannot go on: the exit, where the guest was, the registers, and what to try.
 */
import { hex } from '../../hex.ts';
import { ExitReason, InternalError } from '../../kvm/constants.ts';
import type { Cpu } from './cpu.ts';
import { instructionAdvice } from './instruction-advice.ts';

const REGISTERS_A_LINE = 4;
const RESET_RIP = 0xfff0n;
const AFTER_RESET =
  "where the guest was is not known: on AMD's SVM, KVM resets a vCPU before it tells of the shutdown, and these are the reset's registers";

function registers(cpu: Cpu): string[] {
  const regs = Object.entries(cpu.vcpu.getRegs()).map(
    ([name, value]) => `${name}=${value.toString(16).padStart(16, '0')}`,
  );
  const lines: string[] = [];
  for (let index = 0; index < regs.length; index += REGISTERS_A_LINE) {
    lines.push(regs.slice(index, index + REGISTERS_A_LINE).join(' '));
  }
  const { cr0, cr2, cr3, cr4, efer, cs, apicBase } = cpu.vcpu.getSregs();
  lines.push(`cr0=${hex(cr0)} cr2=${hex(cr2)} cr3=${hex(cr3)} cr4=${hex(cr4)} efer=${hex(efer)}`);
  lines.push(`cs=${hex(cs.selector)} cs.base=${hex(cs.base)} apic_base=${hex(apicBase)}`);
  return lines;
}

/** @returns a first line that says what happened and where, then the details, indented. */
export function describeFailure(cpu: Cpu, what: string): string {
  const { run, vcpu, apicId } = cpu;
  const head = `vCPU with APIC ID ${hex(apicId)}: ${what} at rip ${hex(vcpu.getRegs().rip)} (${run.describe()})`;
  const cannotEmulate =
    run.exitReason === ExitReason.INTERNAL_ERROR && run.internalSuberror === InternalError.EMULATION;
  const advice = cannotEmulate ? [instructionAdvice(run.internalInstructionBytes())] : [];
  if (run.exitReason === ExitReason.SHUTDOWN && vcpu.getRegs().rip === RESET_RIP) advice.push(AFTER_RESET);
  return [head, ...[...advice, ...registers(cpu)].map((line) => `  ${line}`)].join('\n');
}

/** Where a vCPU that does not run is. */
export function describeHalt({ apicId, vcpu }: Cpu): string {
  return `vCPU with APIC ID ${hex(apicId)} at rip ${hex(vcpu.getRegs().rip)}`;
}
