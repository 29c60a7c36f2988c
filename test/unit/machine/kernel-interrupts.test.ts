/** A vCPU on KVM's own local APIC: what is left to us are the PICs, removal and power-up. */
import { describe, expect, test } from 'vitest';
import { ExitReason } from '../../../src/kvm/constants.ts';
import { kernelCpu } from '../../../src/machine/loop/cpu.ts';
import { captureResetState } from '../../../src/machine/loop/cpu-state.ts';
import { enterGuest } from '../../../src/machine/loop/enter.ts';
import { handleExit } from '../../../src/machine/loop/exits.ts';
import { type ScriptedStep, ScriptedVcpu } from '../../../src/machine/loop/scripted-vcpu.ts';
import { RunState } from '../../../src/machine/shared/shared.ts';
import { LoopRig, NOTHING, NOTHING_IF_OFF } from './loop-rig.ts';

const RUNNABLE = 0;
const UNINITIALIZED = 1;

function makeCpu(steps: ScriptedStep[], bootstrap = true) {
  const rig = new LoopRig([]);
  const scripted = new ScriptedVcpu(rig.host, steps);
  const { vcpu, run } = scripted;
  const parts = { vcpuIndex: 2, apicId: 5, bootstrap, vcpu, run, reset: captureResetState(vcpu, []) };
  const cpu = kernelCpu({ ...parts, shared: rig.shared, devices: rig.devices });
  const step = (): void => {
    expect(cpu.interrupts.prepare(false)).toBe(true);
    enterGuest(cpu);
  };
  return { rig, cpu, scripted, step };
}

test('a new vCPU is put into KVM s map by setting its page, and counts as running', () => {
  const { rig, scripted } = makeCpu([]);
  expect(scripted.given).toContain('lapic');
  expect(rig.shared.runState(2)).toBe(RunState.running);
});

describe('the PICs', () => {
  test('their interrupt goes in when KVM can take one, once', () => {
    const { rig, cpu, scripted, step } = makeCpu([NOTHING, NOTHING, NOTHING]);
    step();
    rig.setPic(true);
    step();
    expect(scripted.taken).toEqual(['0x20']);
    expect(cpu.run.requestInterruptWindow).toBe(false);
    step();
    expect(scripted.taken).toEqual(['0x20']);
  });

  test('until then a window is asked for', () => {
    const { rig, cpu, scripted, step } = makeCpu([NOTHING_IF_OFF, NOTHING_IF_OFF, NOTHING, NOTHING]);
    rig.setPic(true);
    step();
    step();
    expect(cpu.run.requestInterruptWindow).toBe(true);
    expect(scripted.taken).toEqual([]);
    step();
    step();
    expect(scripted.taken).toEqual(['0x20']);
  });

  test('not beside another event that was queued', () => {
    const { rig, cpu, scripted, step } = makeCpu([NOTHING, NOTHING]);
    step();
    rig.setPic(true);
    cpu.interrupts.eventQueued();
    step();
    expect(scripted.taken).toEqual([]);
  });

  test('one at a time', () => {
    const { rig, cpu, scripted, step } = makeCpu([NOTHING]);
    step();
    rig.setPic(true);
    cpu.interrupts.prepare(false);
    rig.setPic(true);
    cpu.interrupts.prepare(false);
    expect(scripted.given.filter((what) => what.startsWith('interrupt'))).toEqual(['interrupt 0x20']);
    expect(cpu.run.requestInterruptWindow).toBe(true);
  });
});

describe('life', () => {
  test('parked: its APIC is off and it does not run', () => {
    const { rig, cpu, scripted, step } = makeCpu([NOTHING]);
    step();
    cpu.interrupts.park();
    expect(scripted.runs).toBe(2); // its last exit is completed first: nothing of it is left for who comes back
    expect(cpu.vcpu.getMsrs([0x1b])).toEqual([{ index: 0x1b, value: 0xfee0_0000n }]);
    expect(rig.shared.runState(2)).toBe(RunState.parked);
    expect(cpu.interrupts.prepare(true)).toBe(false);
  });

  test.each([
    ['the boot CPU runs', true, 0xfee0_0900n, RUNNABLE],
    ['another waits for SIPI', false, 0xfee0_0800n, UNINITIALIZED],
  ])('power-up: %s, with the page and registers of a new one', (_what, bootstrap, apicBase, mpState) => {
    const { rig, cpu, scripted, step } = makeCpu([NOTHING, NOTHING], bootstrap);
    const page = cpu.vcpu.getLapic();
    step();
    cpu.vcpu.setLapic(new Uint8Array(1024).fill(7));
    cpu.vcpu.setRegs({ rip: 1n });
    cpu.interrupts.park();
    const { runs } = scripted;
    cpu.interrupts.powerUp();
    expect(scripted.runs).toBe(runs + 1); // completes the exit before it
    expect(cpu.vcpu.getLapic()).toEqual(page);
    expect(cpu.vcpu.getRegs().rip).toBe(0xfff0n);
    expect(cpu.vcpu.getSregs().apicBase).toBe(apicBase);
    expect(cpu.vcpu.getMsrs([0x1b])[0].value).toBe(apicBase);
    expect(cpu.vcpu.getMpState()).toBe(mpState);
    expect(cpu.interrupts.state).toBe(RunState.running);
    rig.setPic(true);
    cpu.interrupts.prepare(false); // what KVM_RUN said before is out of date
    expect(cpu.run.requestInterruptWindow).toBe(true);
  });

  test('restored: parked as it was, or running, and what KVM_RUN said is out of date', () => {
    const { rig, cpu, scripted, step } = makeCpu([NOTHING]);
    step();
    const saved = cpu.interrupts.save();
    cpu.interrupts.park();
    const parked = cpu.interrupts.save();
    cpu.interrupts.restore(saved);
    expect(rig.shared.runState(2)).toBe(RunState.running);
    rig.setPic(true);
    expect(cpu.interrupts.prepare(false)).toBe(true);
    expect(scripted.given).not.toContain('interrupt 0x20');
    cpu.interrupts.restore(parked);
    expect(rig.shared.runState(2)).toBe(RunState.parked);
    expect(cpu.interrupts.prepare(false)).toBe(false);
  });

  test('firmware s switch to x2APIC mode', () => {
    const { cpu } = makeCpu([]);
    cpu.interrupts.startInX2apicMode();
    expect(cpu.vcpu.getMsrs([0x1b])[0].value).toBe(0xfee0_0400n);
  });
});

describe('exits that concern an APIC', () => {
  const end = (): never => {
    throw new Error('ended');
  };

  test.each([ExitReason.X86_RDMSR, ExitReason.X86_WRMSR])('an MSR (exit %i) is none of ours: #GP', (exitReason) => {
    const { rig, cpu, step } = makeCpu([{ exitReason, msrIndex: 0x808 }]);
    step();
    handleExit(cpu, rig.devices, end);
    expect(cpu.run.msrError).toBe(true);
  });

  test('the page is a device s address', () => {
    const mmioData = [0, 0, 0, 0];
    const { rig, cpu, step } = makeCpu([{ exitReason: ExitReason.MMIO, mmioAddress: 0xfee0_0020, mmioData }]);
    rig.answer = 0x1234;
    step();
    handleExit(cpu, rig.devices, end);
    expect(rig.said).toEqual(['mmio read fee00020 4']);
    expect(mmioData).toEqual([0x34, 0x12, 0, 0]);
  });

  test('HLT waits inside KVM: nothing changes here', () => {
    const { rig, cpu, step } = makeCpu([{ exitReason: ExitReason.HLT }]);
    step();
    handleExit(cpu, rig.devices, end);
    expect(cpu.interrupts.prepare(false)).toBe(true);
    expect(rig.shared.runState(2)).toBe(RunState.running);
  });
});
