/** What a person is told when a vCPU cannot go on. */
import { expect, test } from 'vitest';
import { describeFailure, describeHalt } from '../../../src/machine/loop/failure.ts';
import type { ScriptedExit } from '../../../src/machine/loop/scripted-vcpu.ts';
import { LoopRig } from './loop-rig.ts';

const SHUTDOWN = 8;
const INTERNAL_ERROR = 17;
const EMULATION = 1;
const CX16 = Uint8Array.of(0xf0, 0x48, 0x0f, 0xc7, 0x4d, 0x20);

function failure(exit: ScriptedExit, rip = 0x1234n): string[] {
  const rig = new LoopRig([[exit]]);
  const [cpu] = rig.cpus;
  cpu.vcpu.setRegs({ ...cpu.vcpu.getRegs(), rip, rbx: 0xabcn });
  cpu.vcpu.setSregs({ ...cpu.vcpu.getSregs(), cr3: 0x9000n });
  cpu.run.run();
  return describeFailure(cpu, 'it broke').split('\n');
}

test('what happened and where, then registers, four a line', () => {
  const [head, ...rest] = failure({ exitReason: SHUTDOWN });
  expect(head).toBe('vCPU with APIC ID 0x0: it broke at rip 0x1234 (KVM_EXIT_SHUTDOWN)');
  expect(rest).toHaveLength(7);
  expect(rest[0]).toMatch(/^ {2}rax=0000000000000000 rbx=0000000000000abc rcx=0000000000000000 rdx=0000000000000000$/);
  expect(rest.at(-2)).toMatch(/^ {2}cr0=0x\w+ cr2=0x0 cr3=0x9000 cr4=0x0 efer=0x0$/);
  expect(rest.at(-1)).toMatch(/^ {2}cs=0x0 cs.base=0x0 apic_base=0xfee00900$/);
});

test('an instruction that KVM does not know: what to try', () => {
  const exit = { exitReason: INTERNAL_ERROR, internalSuberror: EMULATION, instruction: CX16 };
  expect(failure(exit)[1]).toContain('--cpu host,-cx16');
});

test.each([
  ['another internal error', { exitReason: INTERNAL_ERROR, internalSuberror: 3, instruction: CX16 }],
  ['another exit', { exitReason: SHUTDOWN, internalSuberror: EMULATION, instruction: CX16 }],
])('%s: no advice about an instruction', (_what, exit) => {
  expect(failure(exit).join()).not.toContain('--cpu');
});

test('a shutdown on SVM: these are the registers of the reset that KVM has done already', () => {
  expect(failure({ exitReason: SHUTDOWN }, 0xfff0n)[1]).toMatch(/where the guest was is not known/);
  expect(failure({ exitReason: SHUTDOWN }).join()).not.toContain('not known');
  expect(failure({ exitReason: INTERNAL_ERROR, internalSuberror: 3 }, 0xfff0n).join()).not.toContain('not known');
});

test('where a halted vCPU is', () => {
  const rig = new LoopRig([[]]);
  rig.cpus[0].vcpu.setRegs({ rip: 0x77n });
  expect(describeHalt(rig.cpus[0])).toBe('vCPU with APIC ID 0x0 at rip 0x77');
});
