/** What our APIC does to a vCPU between two KVM_RUNs: the order of events, what ends a HLT, INIT and SIPI, the PICs, TPR. */
import { describe, expect, test } from 'vitest';
import { ExitReason } from '../../../src/kvm/constants.ts';
import { enterGuest, Left } from '../../../src/machine/loop/enter.ts';
import type { ScriptedStep } from '../../../src/machine/loop/scripted-vcpu.ts';
import { RunState } from '../../../src/machine/shared/shared.ts';
import type { MachineTrace } from '../../../src/machine/trace.ts';
import { HLT, HLT_IF_OFF, LINT0, LoopRig, NOTHING, NOTHING_IF_OFF, SPIV, TPR } from './loop-rig.ts';

const NMI = { deliveryMode: 4 };
const INIT = { deliveryMode: 5 };
const SIPI = { deliveryMode: 6 };
const MODE_3 = { deliveryMode: 3 };
const EXTINT_UNMASKED = 0x700;

const makeCpu = (...steps: ScriptedStep[]) => makeTracedCpu(undefined, ...steps);

function makeTracedCpu(trace: MachineTrace | undefined, ...steps: ScriptedStep[]) {
  const rig = new LoopRig([steps], trace && { trace });
  const [cpu] = rig.cpus;
  const [vcpu] = rig.vcpus;
  const { interrupts, run } = cpu;
  /** prepare, KVM_RUN, and HLT's part of the exit. */
  const step = (): number => {
    expect(interrupts.prepare(true)).toBe(true);
    const left = enterGuest(cpu);
    if (left === Left.exit && run.exitReason === ExitReason.HLT) interrupts.halt();
    return left;
  };
  return { rig, cpu, vcpu, interrupts, run, step, apic: rig.system.apic(0) };
}

describe('an interrupt', () => {
  test('goes in when KVM_RUN said that it can be taken', () => {
    const { rig, vcpu, step } = makeCpu(NOTHING, NOTHING);
    step();
    rig.send(0x31);
    step();
    expect(vcpu.given).toContain('interrupt 0x31');
    expect(vcpu.taken).toEqual(['0x31']);
  });

  test('waits for a window while RFLAGS.IF is clear, and asks for one', () => {
    const { rig, vcpu, run, step } = makeCpu(NOTHING_IF_OFF, NOTHING, NOTHING);
    step();
    rig.send(0x31);
    step();
    expect(vcpu.taken).toEqual([]);
    expect(run.requestInterruptWindow).toBe(true);
    step();
    expect(vcpu.taken).toEqual(['0x31']);
    expect(run.requestInterruptWindow).toBe(false);
  });

  test('is the only one until KVM_RUN has returned, and asks for a window for the next', () => {
    const { rig, vcpu, interrupts, run, step } = makeCpu(NOTHING, NOTHING);
    step();
    rig.send(0x31);
    expect(interrupts.prepare(true)).toBe(true);
    rig.send(0x91);
    expect(interrupts.prepare(true)).toBe(true);
    expect(vcpu.given.filter((what) => what.startsWith('interrupt'))).toEqual(['interrupt 0x31']);
    expect(run.requestInterruptWindow).toBe(true);
    step();
    expect(vcpu.taken).toEqual(['0x31']);
  });

  test('with one of a higher class behind it: the window is asked for at once', () => {
    const { rig, vcpu, run, step } = makeCpu(NOTHING, NOTHING);
    step();
    rig.send(0x31);
    rig.send(0x91);
    step();
    expect(vcpu.taken).toEqual(['0x91']);
    expect(run.requestInterruptWindow).toBe(false); // 0x31 waits for EOI, not for a window
  });

  test('does not go in beside the #GP of a refused MSR access', () => {
    const write: ScriptedStep = { exitReason: ExitReason.X86_WRMSR, msrIndex: 0x802, ifFlag: true };
    const { rig, vcpu, cpu, run, step } = makeCpu(write, NOTHING, NOTHING);
    step();
    run.msrError = cpu.apic?.writeMsr(0x802, 0, 0) === false;
    rig.send(0x31);
    step();
    step();
    expect(vcpu.taken).toEqual(['#GP', '0x31']);
  });

  test.each([0x802, 0x80b])('nor beside that of a refused read (MSR %i)', (msr) => {
    const { rig, vcpu, cpu, run, step } = makeCpu({ exitReason: ExitReason.X86_RDMSR, ifFlag: true }, NOTHING, NOTHING);
    step();
    run.msrError = cpu.apic?.readMsr(msr) === false;
    rig.send(0x31);
    step();
    step();
    expect(vcpu.taken).toEqual(['#GP', '0x31']);
  });

  test('does not go in beside an event that the monitor queued', () => {
    const { rig, vcpu, interrupts, step } = makeCpu(NOTHING, NOTHING, NOTHING);
    step();
    interrupts.eventQueued();
    rig.send(0x31);
    step();
    expect(vcpu.taken).toEqual([]);
    step();
    expect(vcpu.taken).toEqual(['0x31']);
  });
});

describe('an NMI', () => {
  test('comes before an interrupt that came with it', () => {
    const { rig, vcpu, step } = makeCpu(NOTHING, NOTHING, { ...NOTHING, nmiEnded: true }, NOTHING);
    step();
    rig.send(0x31);
    rig.send(0, NMI);
    step();
    step();
    step();
    expect(vcpu.taken).toEqual(['NMI', '0x31']);
  });

  test('that KVM has yet to deliver comes before an interrupt that came later', () => {
    const { rig, vcpu, step } = makeCpu(NOTHING, -4, NOTHING, { ...NOTHING, nmiEnded: true }, NOTHING);
    step();
    rig.send(0, NMI);
    rig.host.kicked = true; // KVM_RUN is left before it enters the guest
    step();
    rig.send(0x31);
    for (let i = 0; i < 4; i++) step();
    expect(vcpu.taken).toEqual(['NMI', '0x31']);
  });

  test('that waits for the end of another handler lets interrupts pass', () => {
    const { rig, vcpu, step } = makeCpu(NOTHING, NOTHING, NOTHING, { ...NOTHING, nmiEnded: true }, NOTHING);
    step();
    rig.send(0, NMI);
    step();
    rig.send(0, NMI);
    step();
    rig.send(0x31);
    step();
    step();
    expect(vcpu.taken).toEqual(['NMI', '0x31', 'NMI']);
  });

  test('one is in service and one waits: KVM is given no more than two', () => {
    const { rig, vcpu, interrupts } = makeCpu(NOTHING);
    for (let i = 0; i < 5; i++) rig.send(0, NMI);
    interrupts.prepare(true);
    expect(vcpu.given.filter((what) => what === 'nmi')).toHaveLength(2);
  });

  test('events are shared from an NMI to the end of its handler, and no longer', () => {
    const shared: boolean[] = [];
    const { rig, run, step } = makeCpu(NOTHING, NOTHING, { ...NOTHING, nmiEnded: true }, NOTHING);
    const share = run.shareEvents.bind(run);
    run.shareEvents = (on) => {
      shared.push(on);
      share(on);
    };
    step();
    rig.send(0, NMI);
    step();
    expect(shared).toEqual([true]);
    step();
    expect(shared).toEqual([true, false]);
    step();
    expect(shared).toEqual([true, false]);
  });
});

describe('a halted vCPU', () => {
  test('is out of the guest until an interrupt comes', () => {
    const { rig, vcpu, interrupts, step } = makeCpu(HLT, NOTHING);
    step();
    expect(interrupts.prepare(true)).toBe(false);
    expect(interrupts.state).toBe(RunState.halted);
    rig.send(0x31);
    step();
    expect(interrupts.state).toBe(RunState.running);
    expect(vcpu.taken).toEqual(['0x31']);
  });

  test('with RFLAGS.IF clear is not woken by an interrupt, but by an NMI', () => {
    const { rig, vcpu, interrupts, step } = makeCpu(HLT_IF_OFF, NOTHING);
    step();
    rig.send(0x31);
    expect(interrupts.prepare(true)).toBe(false);
    expect(interrupts.state).toBe(RunState.haltedWithoutIf);
    rig.send(0, NMI);
    step();
    expect(vcpu.taken).toEqual(['NMI']);
  });

  test('is not woken by an interrupt below its TPR', () => {
    const { rig, apic, interrupts, step } = makeCpu({ ...HLT, cr8: 4 });
    apic.writeMmio(TPR, 4, 0x40);
    step();
    rig.send(0x31);
    expect(interrupts.prepare(true)).toBe(false);
  });

  test('goes on for an NMI that KVM held when it executed HLT', () => {
    // Two NMIs: the guest takes one, ends its handler, and executes HLT before KVM has delivered the other.
    const { rig, vcpu, interrupts, step } = makeCpu(NOTHING_IF_OFF, { ...HLT_IF_OFF, nmiEnded: true }, NOTHING_IF_OFF);
    step();
    rig.send(0, NMI);
    rig.send(0, NMI);
    step();
    expect(interrupts.state).toBe(RunState.haltedWithoutIf);
    step();
    expect(vcpu.taken).toEqual(['NMI', 'NMI']);
  });

  test('in its NMI handler stays there, though KVM holds another NMI that is masked', () => {
    const { rig, interrupts, step } = makeCpu(NOTHING_IF_OFF, HLT_IF_OFF);
    step();
    rig.send(0, NMI);
    rig.send(0, NMI);
    step();
    expect(interrupts.prepare(true)).toBe(false);
  });

  test('in its NMI handler goes on when another NMI comes, as in KVM', () => {
    const { rig, interrupts, step } = makeCpu(NOTHING_IF_OFF, HLT_IF_OFF, NOTHING_IF_OFF);
    step();
    rig.send(0, NMI);
    step();
    expect(interrupts.prepare(true)).toBe(false);
    rig.send(0, NMI);
    expect(interrupts.prepare(true)).toBe(true);
  });

  test('goes on when a message of delivery mode 3 comes', () => {
    const { rig, interrupts, step } = makeCpu(HLT_IF_OFF, HLT_IF_OFF);
    step();
    expect(interrupts.prepare(true)).toBe(false);
    rig.send(0, MODE_3);
    step();
    expect(interrupts.prepare(true)).toBe(false); // one HLT for each
  });

  test('a message of mode 3 that came before the HLT ends it', () => {
    const { rig, interrupts, step } = makeCpu(NOTHING_IF_OFF, HLT_IF_OFF, HLT_IF_OFF);
    step();
    rig.send(0, MODE_3);
    step();
    step();
    expect(interrupts.prepare(true)).toBe(false);
  });

  test('a SIPI that nobody waits for ends a HLT, as in KVM, and changes nothing else', () => {
    const { rig, interrupts, vcpu, step } = makeCpu(HLT_IF_OFF, HLT_IF_OFF);
    step();
    rig.send(8, SIPI);
    expect(interrupts.prepare(true)).toBe(true);
    expect(vcpu.given).not.toContain('regs');
    step();
    expect(interrupts.prepare(true)).toBe(false); // it is not kept for the next HLT
  });

  test('a SIPI that came before the HLT does not', () => {
    const { rig, interrupts, step } = makeCpu(NOTHING_IF_OFF, NOTHING_IF_OFF, HLT_IF_OFF);
    step();
    rig.send(8, SIPI);
    step();
    step();
    expect(interrupts.prepare(true)).toBe(false);
  });
});

describe('INIT and SIPI', () => {
  /** Clears the BSP flag, without which INIT leads to wait-for-SIPI. */
  function makeApplicationCpu(...steps: ScriptedStep[]) {
    const made = makeCpu(...steps);
    expect(made.cpu.apic?.writeMsr(0x1b, 0xfee0_0800, 0)).toBe(true);
    return made;
  }

  test('INIT: the registers are those of the reset, the APIC base is kept, and the CPU waits for a SIPI', () => {
    const { rig, interrupts, cpu, step } = makeApplicationCpu(NOTHING);
    step();
    cpu.vcpu.setRegs({ rip: 0x1234n, rax: 7n });
    cpu.vcpu.setSregs({ ...cpu.vcpu.getSregs(), cr3: 0x5000n, cr0: 0x2000_0011n });
    rig.send(0, INIT);
    expect(interrupts.prepare(true)).toBe(false);
    expect(interrupts.state).toBe(RunState.waitForSipi);
    expect(cpu.vcpu.getRegs()).toMatchObject({ rip: 0xfff0n, rax: 0n, rflags: 2n });
    expect(cpu.vcpu.getSregs()).toMatchObject({ cr3: 0n, cr0: 0x2000_0010n, apicBase: 0xfee0_0800n });
  });

  test('INIT finishes the exit before it: its result cannot land in the new registers', () => {
    const read: ScriptedStep = { exitReason: ExitReason.MMIO, mmioAddress: 0xd000, mmioData: [0, 0], pieces: 2 };
    const { rig, interrupts, vcpu, step } = makeApplicationCpu(read);
    step();
    rig.send(0, INIT);
    interrupts.prepare(true);
    expect(vcpu.runs).toBe(4); // the exit, its two other pieces, and the return that completes it
  });

  test('INIT drops NMIs, those on their way and those that KVM holds, and a message of mode 3', () => {
    const { rig, interrupts, vcpu, cpu, step } = makeApplicationCpu(NOTHING_IF_OFF, NOTHING_IF_OFF, HLT_IF_OFF);
    step();
    rig.send(0, NMI);
    rig.send(0, NMI);
    interrupts.prepare(true); // KVM has them
    rig.send(0, NMI);
    rig.send(0, MODE_3);
    interrupts.prepare(true);
    rig.send(0, NMI);
    rig.send(0, INIT);
    expect(interrupts.prepare(true)).toBe(false);
    expect(cpu.vcpu.getVcpuEvents().nmi).toMatchObject({ pending: 0, masked: 0 });
    rig.send(8, SIPI);
    step();
    step();
    expect(vcpu.taken).toEqual([]);
    expect(interrupts.prepare(true)).toBe(false);
  });

  test('INIT resets the APIC, and an NMI handler that it broke off is forgotten', () => {
    const { rig, interrupts, apic, run, step } = makeApplicationCpu(NOTHING_IF_OFF, NOTHING_IF_OFF);
    step();
    apic.writeMmio(TPR, 4, 0x20);
    rig.send(0, NMI);
    step();
    expect(run.nmisMasked).toBe(true);
    rig.send(0, INIT);
    interrupts.prepare(true);
    expect(apic.readMmio(TPR, 4)).toBe(0);
    expect(apic.readMmio(SPIV, 4)).toBe(0xff);
    expect(run.nmisMasked).toBe(false);
  });

  test('an interrupt is not injected on what was said before the INIT', () => {
    const { rig, interrupts, vcpu, step } = makeCpu(NOTHING, NOTHING); // BSP: runs on
    step();
    rig.send(0, INIT);
    interrupts.prepare(true);
    rig.system.apic(0).writeMmio(SPIV, 4, 0x1ff);
    rig.send(0x31);
    interrupts.prepare(true);
    expect(vcpu.given).not.toContain('interrupt 0x31');
  });

  test('SIPI starts a CPU that waits for one at its page; a second changes nothing', () => {
    const { rig, interrupts, cpu, step } = makeApplicationCpu(NOTHING, NOTHING);
    step();
    rig.send(0, INIT);
    interrupts.prepare(true);
    rig.send(0x9a, SIPI);
    step();
    expect(cpu.vcpu.getSregs().cs).toMatchObject({ selector: 0x9a00, base: 0x9a000n });
    expect(cpu.vcpu.getRegs().rip).toBe(0n);
    rig.send(0x12, SIPI);
    interrupts.prepare(true);
    expect(cpu.vcpu.getSregs().cs.selector).toBe(0x9a00);
  });

  test('a message of mode 3 during wait-for-SIPI ends no HLT after it, as in KVM', () => {
    const { rig, interrupts, step } = makeApplicationCpu(NOTHING, HLT_IF_OFF);
    step();
    rig.send(0, INIT);
    interrupts.prepare(true);
    rig.send(0, MODE_3);
    expect(interrupts.prepare(true)).toBe(false);
    rig.send(8, SIPI);
    step();
    expect(interrupts.prepare(true)).toBe(false);
  });

  test('an NMI during wait-for-SIPI is taken after it, as in KVM', () => {
    const { rig, interrupts, vcpu, step } = makeApplicationCpu(NOTHING, NOTHING_IF_OFF);
    step();
    rig.send(0, INIT);
    interrupts.prepare(true);
    rig.send(0, NMI);
    expect(interrupts.prepare(true)).toBe(false);
    rig.send(8, SIPI);
    step();
    expect(vcpu.taken).toEqual(['NMI']);
  });

  test('INIT of the boot CPU, by its BSP flag, starts it at the reset vector', () => {
    const { rig, interrupts, cpu, step } = makeCpu(NOTHING, NOTHING);
    step();
    cpu.vcpu.setRegs({ rip: 0x1234n });
    rig.send(0, INIT);
    step();
    expect(interrupts.state).toBe(RunState.running);
    expect(cpu.vcpu.getRegs().rip).toBe(0xfff0n);
  });
});

describe('the PICs', () => {
  test('their interrupt comes first, through an LINT0 that takes it', () => {
    const { rig, apic, vcpu, step } = makeCpu(NOTHING, NOTHING, NOTHING);
    apic.writeMmio(LINT0, 4, EXTINT_UNMASKED);
    step();
    rig.setPic(true);
    rig.send(0x91);
    step();
    expect(vcpu.taken).toEqual(['0x20']);
    step();
    expect(vcpu.taken).toEqual(['0x20', '0x91']);
  });

  test('any vector is theirs to give, 0 too', () => {
    const { rig, apic, vcpu, step } = makeCpu(NOTHING, NOTHING);
    apic.writeMmio(LINT0, 4, EXTINT_UNMASKED);
    step();
    rig.picVector = 0;
    rig.setPic(true);
    step();
    expect(vcpu.taken).toEqual(['0x0']);
  });

  test('a masked LINT0 keeps it out', () => {
    const { rig, vcpu, run, step } = makeCpu(NOTHING, NOTHING);
    step();
    rig.setPic(true);
    step();
    expect(vcpu.taken).toEqual([]);
    expect(run.requestInterruptWindow).toBe(false);
  });

  test('it is seen without a wake-up, by a vCPU whose APIC nobody touched', () => {
    const { rig, apic, interrupts, vcpu, step } = makeCpu(NOTHING, NOTHING);
    apic.writeMmio(LINT0, 4, EXTINT_UNMASKED);
    step();
    interrupts.prepare(true);
    rig.setPic(true);
    interrupts.prepare(false);
    expect(vcpu.given).toContain('interrupt 0x20');
  });

  test('withdrawn before it is taken: the APIC s own interrupt goes instead, or none', () => {
    const { rig, apic, vcpu, run, step } = makeCpu(NOTHING_IF_OFF, NOTHING, NOTHING, NOTHING);
    apic.writeMmio(LINT0, 4, EXTINT_UNMASKED);
    step();
    rig.setPic(true);
    step(); // asks for a window
    expect(run.requestInterruptWindow).toBe(true);
    rig.setPic(false);
    step();
    expect(vcpu.taken).toEqual([]);
    expect(run.requestInterruptWindow).toBe(false);
  });

  test('withdrawn between the look and the taking: nothing is injected', () => {
    const { rig, apic, cpu, vcpu, step } = makeCpu(NOTHING, NOTHING);
    apic.writeMmio(LINT0, 4, EXTINT_UNMASKED);
    step();
    rig.setPic(true);
    const acceptsPic = apic.acceptsPic.bind(apic);
    apic.acceptsPic = () => {
      rig.setPic(false);
      return acceptsPic();
    };
    cpu.interrupts.prepare(true);
    expect(vcpu.given.filter((what) => what.startsWith('interrupt'))).toEqual([]);
  });
});

describe('CR8 and TPR', () => {
  test('the guest enters with CR8 as its TPR says, and TPR follows the CR8 it leaves with', () => {
    const { apic, run, step } = makeCpu(NOTHING, { ...NOTHING, cr8: 9 }, NOTHING);
    apic.writeMmio(TPR, 4, 0x5f);
    step();
    expect(run.cr8).toBe(5);
    step();
    expect(apic.readMmio(TPR, 4)).toBe(0x90);
  });

  test('a CR8 that is as it was leaves TPR bits 3:0: KVM does not tell of the write (see the errata)', () => {
    const { apic, step } = makeCpu({ ...NOTHING, cr8: 5 });
    apic.writeMmio(TPR, 4, 0x5f);
    step();
    expect(apic.readMmio(TPR, 4)).toBe(0x5f);
  });

  test('while a vector waits for TPR only, the vCPU is looked at again soon; then not', () => {
    const { rig, apic, interrupts, vcpu, step } = makeCpu({ ...NOTHING, cr8: 8 }, { ...NOTHING, cr8: 0 }, NOTHING);
    apic.writeMmio(TPR, 4, 0x80);
    step();
    expect(interrupts.recheckNanos).toBe(Number.POSITIVE_INFINITY);
    rig.send(0x31);
    step();
    expect(vcpu.taken).toEqual([]);
    expect(interrupts.recheckNanos).toBe(250_000);
    expect(interrupts.settled).toBe(false);
    step(); // CR8 fell
    expect(vcpu.taken).toEqual(['0x31']);
    expect(interrupts.recheckNanos).toBe(Number.POSITIVE_INFINITY);
  });
});

describe('a vCPU whose APIC nobody touched', () => {
  test('is not looked at', () => {
    const { rig, apic, interrupts, step } = makeCpu(NOTHING);
    step();
    expect(interrupts.settled).toBe(true);
    const pendingVector = apic.pendingVector.bind(apic);
    let looks = 0;
    apic.pendingVector = () => {
      looks++;
      return pendingVector();
    };
    expect(interrupts.prepare(false)).toBe(true);
    expect(looks).toBe(0);
    rig.send(0x31);
    interrupts.prepare(true);
    expect(looks).toBeGreaterThan(0);
  });

  test.each([
    ['a register of its page is written', (rig: LoopRig) => rig.cpus[0].apic?.writeMmio(TPR, 4, 0x20)],
    ['an MSR is written', (rig: LoopRig) => rig.cpus[0].apic?.writeMsr(0x1b, 0xfee0_0900, 0)],
    ['its timer expired', (rig: LoopRig) => rig.cpus[0].apic?.expireTimer(0)],
    ['it halted', (rig: LoopRig) => rig.cpus[0].interrupts.halt()],
  ])('is looked at again when %s', (_what, touch) => {
    const { rig, interrupts, step } = makeCpu(NOTHING);
    step();
    touch(rig);
    expect(interrupts.settled).toBe(false);
  });
});

describe('life', () => {
  test('parked: silent, and reached by nothing', () => {
    const { rig, interrupts, apic, vcpu, step } = makeCpu(NOTHING);
    step();
    apic.writeMmio(TPR, 4, 0x20);
    interrupts.park();
    expect(vcpu.runs).toBe(2); // its last exit is completed first
    expect(apic.snapshot().registers).toMatchObject({ TPR: 0 });
    expect(interrupts.state).toBe(RunState.parked);
    expect(rig.shared.runState(0)).toBe(RunState.parked);
    expect(apic.apicBase()).toBe(0n);
    expect(apic.mode).toBe('disabled');
    rig.send(0, NMI);
    rig.send(0, INIT);
    expect(interrupts.prepare(true)).toBe(false);
  });

  test('powered up again: registers and APIC as new, nothing left of what was sent before', () => {
    const { rig, interrupts, apic, cpu, vcpu, step } = makeCpu(NOTHING, HLT_IF_OFF, HLT_IF_OFF);
    step();
    rig.send(0, MODE_3);
    interrupts.prepare(true); // kept for the next HLT
    cpu.vcpu.setRegs({ rip: 0x99n });
    rig.send(0, NMI);
    rig.send(0x31);
    rig.send(0, INIT);
    rig.send(0, MODE_3);
    interrupts.park();
    const { runs } = vcpu;
    interrupts.powerUp();
    expect(vcpu.runs).toBe(runs + 1); // completes the exit before it
    expect(interrupts.state).toBe(RunState.running);
    expect(cpu.vcpu.getRegs().rip).toBe(0xfff0n);
    expect(apic.mode).toBe('xapic');
    expect(apic.hasNmi()).toBe(false);
    expect(apic.hasEvents()).toBe(false);
    step();
    expect(interrupts.prepare(true)).toBe(false);
    expect(vcpu.taken).toEqual([]);
  });

  test('firmware s switch to x2APIC mode is mirrored where KVM derives CPUID from', () => {
    const { interrupts, apic, cpu } = makeCpu(NOTHING);
    interrupts.startInX2apicMode();
    expect(apic.mode).toBe('x2apic');
    expect(cpu.vcpu.getSregs().apicBase).toBe(0xfee0_0d00n);
  });
});

test('a trace is told of each state, each interrupt that goes in and from where, and each NMI', () => {
  const told: unknown[] = [];
  const trace: MachineTrace = { event: (event) => void told.push(event), exit: () => {} };
  const { rig, apic, interrupts, step } = makeTracedCpu(trace, NOTHING, NOTHING, HLT);
  apic.writeMmio(LINT0, 4, EXTINT_UNMASKED);
  step();
  rig.send(0x31);
  step();
  rig.setPic(true);
  interrupts.prepare(true);
  rig.send(0, NMI);
  step();
  expect(told).toEqual([
    { kind: 'state', vcpuIndex: 0, state: 'running' },
    { kind: 'inject', vcpuIndex: 0, vector: 0x31, from: 'apic' },
    { kind: 'inject', vcpuIndex: 0, vector: 0x20, from: 'pic' },
    { kind: 'nmi', vcpuIndex: 0 },
    { kind: 'state', vcpuIndex: 0, state: 'halted' },
  ]);
});
