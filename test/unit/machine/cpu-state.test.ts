/** What a reset, INIT and SIPI leave in a vCPU, the boot state, and a vCPU saved and restored. */
import { describe, expect, test } from 'vitest';
import { ExitReason } from '../../../src/kvm/constants.ts';
import { KvmError } from '../../../src/kvm/errors.ts';
import { kernelCpu } from '../../../src/machine/loop/cpu.ts';
import { restoreCpu, saveCpu } from '../../../src/machine/loop/cpu-save.ts';
import {
  applyBootState,
  applyFirmwareState,
  applyInit,
  applyPowerUp,
  applySipi,
  captureResetState,
  completeExit,
} from '../../../src/machine/loop/cpu-state.ts';
import { ScriptedHost } from '../../../src/machine/loop/scripted-host.ts';
import { ScriptedVcpu } from '../../../src/machine/loop/scripted-vcpu.ts';
import type { VcpuDescriptor } from '../../../src/machine/loop/vcpu-backend.ts';
import { RunState } from '../../../src/machine/shared/shared.ts';
import { HLT_IF_OFF, LoopRig, NOTHING_IF_OFF } from './loop-rig.ts';

const TSC = 0x10;
/** A few of each kind that KVM_GET_MSR_INDEX_LIST names. */
const SAVABLE = [
  0x10, 0x11, 0x12, 0x1b, 0x3a, 0x9e, 0xc1, 0x186, 0x38f, 0x6e0, 0x80b, 0x4000_0000, 0x4b56_4d00, 0xc001_0117,
];
/** MSRs that a guest can set and a power-up clears: MTRRs, SYSENTER, syscall, PAT, performance counters, SVM's. */
const CLEARED = [
  0x3a, 0x3b, 0x48, 0xc1, 0x140, 0x174, 0x175, 0x176, 0x186, 0x1a0, 0x1d9, 0x200, 0x201, 0x20e, 0x20f, 0x250, 0x258,
  0x259, 0x268, 0x26f, 0x277, 0x2ff, 0x38f, 0xda0, 0xc000_0081, 0xc000_0084, 0xc000_0102, 0xc000_0103, 0xc001_0117,
];

/** As KVM does, and nobody is to ask for nothing. */
function refuseLength(count: number): void {
  if (count > 256) throw new KvmError('KVM_GET_MSRS', 7);
  expect(count, 'an ioctl for nothing').toBeGreaterThan(0);
}

/** @param unreadable MSRs that this KVM does not have @param refused those that it reads and does not take back */
function makeVcpu({
  unreadable = [],
  refused = [],
}: {
  unreadable?: number[];
  refused?: number[];
} = {}): VcpuDescriptor {
  const { vcpu } = new ScriptedVcpu(new ScriptedHost(), []);
  const upTo = (index: number, count: number): number => (index < 0 ? count : index);
  vcpu.getMsrsBeforeRefusal = (indexes) => {
    refuseLength(indexes.length);
    return vcpu.getMsrs(
      indexes.slice(
        0,
        upTo(
          indexes.findIndex((each) => unreadable.includes(each)),
          indexes.length,
        ),
      ),
    );
  };
  vcpu.setMsrsBeforeRefusal = (msrs) => {
    refuseLength(msrs.length);
    const count = upTo(
      msrs.findIndex(({ index }) => refused.includes(index)),
      msrs.length,
    );
    vcpu.setMsrs(msrs.slice(0, count));
    return count;
  };
  return vcpu;
}

const value = (vcpu: VcpuDescriptor, index: number): bigint => vcpu.getMsrs([index])[0].value;

describe('a power-up', () => {
  test('gives every MSR that a guest may have set the value of a vCPU that has never run', () => {
    const vcpu = makeVcpu();
    vcpu.setMsrs([{ index: 0x277, value: 0x0007_0406_0007_0406n }]);
    const reset = captureResetState(vcpu, SAVABLE);
    vcpu.setMsrs([...CLEARED, TSC].map((index) => ({ index, value: 0xfff0_0800n })));
    applyPowerUp(vcpu, reset, 0xfee0_0800n);
    for (const index of CLEARED) {
      expect(value(vcpu, index), `MSR 0x${index.toString(16)}`).toBe(index === 0x277 ? 0x0007_0406_0007_0406n : 0n);
    }
  });

  test('puts the TSC in step with the other vCPUs: 0 from the host, after IA32_TSC_ADJUST', () => {
    const vcpu = makeVcpu();
    const reset = captureResetState(vcpu, SAVABLE);
    const order: number[] = [];
    const setMsrs = vcpu.setMsrs.bind(vcpu);
    vcpu.setMsrs = (msrs) => {
      order.push(...msrs.map(({ index }) => index));
      setMsrs(msrs);
    };
    vcpu.setMsrs([{ index: TSC, value: 1n << 38n }]);
    applyPowerUp(vcpu, reset, 0n);
    expect(value(vcpu, TSC)).toBe(0n);
    expect(order.indexOf(0x3b)).toBeLessThan(order.lastIndexOf(TSC));
  });

  test('leaves alone what is the APIC s, Hyper-V s, or KVM s own to turn on', () => {
    const reset = captureResetState(makeVcpu(), SAVABLE);
    const indexes = reset.powerUpMsrs.map((msr) => msr.index);
    for (const index of [0x10, 0x11, 0x12, 0x1b, 0x6e0, 0x80b, 0x4000_0000, 0x4b56_4d00])
      expect(indexes).not.toContain(index);
    for (const beyond of [0x1ff, 0x210, 0x267, 0x270]) expect(indexes).not.toContain(beyond); // of the MTRRs
    expect(new Set(indexes).size).toBe(indexes.length);
  });

  test('an MSR that this KVM does not take costs only itself', () => {
    const all = captureResetState(makeVcpu(), SAVABLE).powerUpMsrs.map((msr) => msr.index);
    const not = {
      unreadable: [all[0] ?? 0, 0x48, 0x140, 0x20f, 0x4b56_4d06],
      refused: [0x3a, 0x20e, 0x277, 0x4b56_4d03],
    };
    const reset = captureResetState(makeVcpu(not), SAVABLE);
    const without = [...not.unreadable, ...not.refused];
    expect(reset.powerUpMsrs.map((msr) => msr.index)).toEqual(all.filter((index) => !without.includes(index)));
    expect(reset.paravirtMsrs.map((msr) => msr.index)).toEqual([
      0x11, 0x12, 0x4b56_4d00, 0x4b56_4d01, 0x4b56_4d02, 0x4b56_4d04,
    ]);
  });

  test('more MSRs than KVM takes in one list are asked for in several', () => {
    const many = Array.from({ length: 600 }, (_, index) => 0xc002_0000 + index);
    const last = many.at(-1) ?? 0;
    const reset = captureResetState(makeVcpu({ unreadable: [many[255] ?? 0], refused: [last - 1] }), many);
    const indexes = reset.powerUpMsrs.map(({ index }) => index);
    expect(many.filter((index) => !indexes.includes(index))).toEqual([many[255], last - 1]);
    expect(new Set(indexes).size).toBe(indexes.length);
  });

  test('an error that is not KVM s is not swallowed', () => {
    const vcpu = makeVcpu();
    vcpu.getMsrsBeforeRefusal = () => {
      throw new TypeError('ours');
    };
    expect(() => captureResetState(vcpu, [])).toThrow(TypeError);
  });

  test('cache bits of CR0, FPU, XCR0 and debug registers are those of power-up; APIC base is the caller s', () => {
    const vcpu = makeVcpu();
    const reset = captureResetState(vcpu, []);
    vcpu.setSregs({ ...vcpu.getSregs(), cr0: 0x11n, cr3: 1n });
    vcpu.setFpu({ ...vcpu.getFpu(), fcw: 0 });
    vcpu.setXcrs([{ xcr: 0, value: 7n }]);
    vcpu.setDebugregs({ ...vcpu.getDebugregs(), dr7: 0x401n });
    applyPowerUp(vcpu, reset, 0xfee0_0900n);
    expect(vcpu.getSregs()).toEqual({ ...reset.sregs, apicBase: 0xfee0_0900n });
    expect(vcpu.getFpu().fcw).toBe(0x37f);
    expect(vcpu.getXcrs()).toEqual([{ xcr: 0, value: 1n }]);
    expect(vcpu.getDebugregs().dr7).toBe(0x400n);
  });

  test('without XSAVE there is no XCR0 to set', () => {
    const vcpu = makeVcpu();
    vcpu.getXcrs = () => [];
    vcpu.setXcrs = () => {
      throw new Error('set');
    };
    applyPowerUp(vcpu, captureResetState(vcpu, []), 0n);
  });
});

describe('INIT', () => {
  test.each([
    [0x11n, 0x10n],
    [0x6000_0011n, 0x6000_0010n],
    [0x4000_0011n, 0x4000_0010n],
  ])('CR0 %i becomes %i: CD and NW stay (SDM vol. 3A, table 10-1)', (before, after) => {
    const vcpu = makeVcpu();
    const reset = captureResetState(vcpu, []);
    vcpu.setSregs({ ...vcpu.getSregs(), cr0: before });
    applyInit(vcpu, reset, 0n);
    expect(vcpu.getSregs().cr0).toBe(after);
  });

  test('keeps FPU, XCR0 and what power-up sets; clears registers, events and paravirtual MSRs', () => {
    const vcpu = makeVcpu();
    const reset = captureResetState(vcpu, []);
    vcpu.setFpu({ ...vcpu.getFpu(), fcw: 0 });
    vcpu.setXcrs([{ xcr: 0, value: 7n }]);
    vcpu.setMsrs([
      { index: 0x201, value: 0x800n },
      { index: 0x4b56_4d01, value: 1n },
    ]);
    vcpu.setVcpuEvents({ ...vcpu.getVcpuEvents(), nmi: { injected: 1, pending: 2, masked: 1 } });
    vcpu.setDebugregs({ ...vcpu.getDebugregs(), dr6: 1n });
    applyInit(vcpu, reset, 0n);
    expect(vcpu.getFpu().fcw).toBe(0);
    expect(vcpu.getXcrs()[0].value).toBe(7n);
    expect(value(vcpu, 0x201)).toBe(0x800n);
    expect(value(vcpu, 0x4b56_4d01)).toBe(0n);
    expect(vcpu.getVcpuEvents().nmi).toMatchObject({ injected: 0, pending: 0, masked: 0 });
    expect(vcpu.getDebugregs().dr6).toBe(0xffff_0ff0n);
  });
});

test('SIPI: CS of its page, RIP 0, the other registers as INIT left them', () => {
  const vcpu = makeVcpu();
  vcpu.setRegs({ ...vcpu.getRegs(), rdx: 0x600n });
  applySipi(vcpu, 0xfe);
  expect(vcpu.getSregs().cs).toMatchObject({ selector: 0xfe00, base: 0xfe000n });
  expect(vcpu.getRegs()).toMatchObject({ rip: 0n, rdx: 0x600n });
});

test('firmware: fast strings, and memory that is write-back', () => {
  const vcpu = makeVcpu();
  vcpu.setMsrs([{ index: 0x1a0, value: 0x800n }]);
  applyFirmwareState(vcpu);
  expect(value(vcpu, 0x1a0)).toBe(0x801n);
  expect(value(vcpu, 0x2ff)).toBe(0x806n);
  applyFirmwareState(makeVcpu({ unreadable: [0x1a0], refused: [0x2ff] })); // a host without them does without
});

test('the boot CPU s state at an image s entry', () => {
  const vcpu = makeVcpu();
  vcpu.setRegs({ ...vcpu.getRegs(), rax: 5n, rflags: 0x202n });
  const segment = (selector: number, base: number) => ({
    ...{ selector, base, limit: 0xfffff, type: 3, present: 1, dpl: 0, db: 1, s: 1, l: 0, g: 1, avl: 0, unusable: 0 },
  });
  applyBootState(vcpu, {
    format: 'elf',
    mode: 'protected',
    rip: 0x10_0000,
    registers: { rbx: 0x9500 },
    cr0: 0x11,
    cr3: 0x2000,
    cr4: 0x20,
    efer: 0x500,
    cs: segment(8, 0),
    data: segment(0x10, 0x40),
    tr: segment(0x18, 0),
    gdt: { base: 0x800, limit: 0x1f },
  } as unknown as Parameters<typeof applyBootState>[1]);
  const sregs = vcpu.getSregs();
  expect(sregs).toMatchObject({ cr0: 0x11n, cr3: 0x2000n, cr4: 0x20n, efer: 0x500n });
  expect(sregs.cs.selector).toBe(8);
  for (const name of ['ds', 'es', 'fs', 'gs', 'ss'] as const)
    expect(sregs[name]).toMatchObject({ selector: 0x10, base: 0x40n });
  expect(sregs.tr.selector).toBe(0x18);
  expect(sregs.gdt).toMatchObject({ base: 0x800n, limit: 0x1f });
  expect(vcpu.getRegs()).toMatchObject({ rip: 0x10_0000n, rbx: 0x9500n, rax: 5n, rflags: 2n });
});

test('completeExit: every piece of the instruction, and no more', () => {
  const host = new ScriptedHost();
  const scripted = new ScriptedVcpu(host, [{ exitReason: ExitReason.MMIO, mmioData: [1], pieces: 3 }]);
  scripted.run.run();
  completeExit(scripted.run);
  expect(scripted.runs).toBe(5);
  const endless = new ScriptedVcpu(host, [{ exitReason: ExitReason.IO, pieces: 1e9 }]);
  endless.run.run();
  completeExit(endless.run); // comes back
});

describe('a vCPU saved and restored', () => {
  const handling = (rig: LoopRig) => ({ devices: rig.devices, end: () => expect.fail('ended') });

  /** A vCPU in an NMI handler, halted, with another NMI in KVM's hands and a message of mode 3 to come. */
  function busy(): LoopRig {
    const rig: LoopRig = new LoopRig([[NOTHING_IF_OFF, NOTHING_IF_OFF, HLT_IF_OFF]]);
    const [cpu] = rig.cpus;
    const step = (): void => {
      cpu.interrupts.prepare(true);
      cpu.run.run();
      cpu.interrupts.afterRun();
    };
    step();
    rig.send(0, { deliveryMode: 4 });
    rig.send(0, { deliveryMode: 4 });
    step();
    rig.send(0, { deliveryMode: 3 });
    step();
    cpu.vcpu.setRegs({ ...cpu.vcpu.getRegs(), rax: 77n });
    cpu.vcpu.setFpu({ ...cpu.vcpu.getFpu(), fcw: 0x27f });
    cpu.vcpu.setDebugregs({ ...cpu.vcpu.getDebugregs(), dr6: 0xffff_4ff0n });
    cpu.vcpu.setXcrs([{ xcr: 0, value: 7n }]);
    cpu.vcpu.setMsrs([
      { index: 0x201, value: 0x800n },
      { index: TSC, value: 123_456n },
    ]);
    return rig;
  }

  test('is the same by all that can be read of it, and goes on in the same way', () => {
    const from = busy();
    const reset = captureResetState(from.cpus[0].vcpu, []);
    from.cpus[0].interrupts.halt();
    const state = structuredClone(saveCpu(from.cpus[0], reset, handling(from)));
    expect(state.loop).toEqual({ state: RunState.haltedWithoutIf, unhalted: true });
    const to: LoopRig = new LoopRig([[{ ...HLT_IF_OFF, nmiEnded: true }, HLT_IF_OFF]]);
    const [cpu] = to.cpus;
    restoreCpu(cpu, state, handling(to));
    expect(saveCpu(cpu, reset, handling(to))).toEqual(state);
    expect(to.shared.runState(0)).toBe(RunState.haltedWithoutIf);
    to.host.whileAsleep.push(() => to.stop());
    to.loop();
    // Mode 3 ends the HLT; then its NMI handler ends, and the NMI that was in KVM's hands is taken.
    expect(to.vcpus[0].taken).toEqual(['NMI']);
    expect(cpu.vcpu.getRegs().rax).toBe(77n);
  });

  test('an exit that is half finished is finished first, with all its pieces handled', () => {
    const rig: LoopRig = new LoopRig([
      [{ exitReason: ExitReason.IO, ioIsOut: true, ioPort: 0x3f8, ioData: [0x61], pieces: 2 }],
    ]);
    const [cpu] = rig.cpus;
    cpu.interrupts.prepare(true);
    cpu.run.run();
    saveCpu(cpu, captureResetState(cpu.vcpu, []), handling(rig));
    expect(rig.said).toEqual(['pio write 3f8 1 61', 'pio write 3f8 1 61']); // the first piece was its caller's
  });

  test('no interrupt goes in on what another vCPU could take', () => {
    const from = busy();
    const reset = captureResetState(from.cpus[0].vcpu, []);
    const state = saveCpu(from.cpus[0], reset, handling(from));
    const to: LoopRig = new LoopRig([[]]);
    restoreCpu(to.cpus[0], { ...state, loop: { state: RunState.running, unhalted: false } }, handling(to));
    to.send(0x31);
    to.cpus[0].interrupts.prepare(true);
    expect(to.vcpus[0].given).not.toContain('interrupt 0x31');
    expect(to.cpus[0].run.requestInterruptWindow).toBe(true);
  });

  test('on KVM s own APIC: its page in the mode of before, then the deadline, which its LVT decides about', () => {
    const make = () => {
      const rig = new LoopRig([]);
      const { vcpu, run } = new ScriptedVcpu(rig.host, []);
      const reset = captureResetState(vcpu, []);
      const parts = { vcpuIndex: 0, apicId: 0, bootstrap: true, vcpu, run, reset };
      return { rig, vcpu, reset, cpu: kernelCpu({ ...parts, shared: rig.shared, devices: rig.devices }) };
    };
    const from = make();
    from.vcpu.setLapic(new Uint8Array(1024).fill(7));
    from.vcpu.setMpState(3);
    from.vcpu.setMsrs([
      { index: 0x1b, value: 0xfee0_0d00n },
      { index: 0x6e0, value: 99n },
    ]);
    const state = saveCpu(from.cpu, from.reset, handling(from.rig));
    const to = make();
    const order: string[] = [];
    const { setMsrs, setLapic } = to.vcpu;
    to.vcpu.setMsrs = (msrs) => {
      order.push(...msrs.map(({ index }) => index.toString(16)));
      setMsrs.call(to.vcpu, msrs);
    };
    to.vcpu.setLapic = (page) => {
      order.push('page');
      setLapic.call(to.vcpu, page);
    };
    restoreCpu(to.cpu, state, handling(to.rig));
    expect(order.slice(0, 3)).toEqual(['1b', 'page', '6e0']);
    expect(saveCpu(to.cpu, to.reset, handling(to.rig))).toEqual(state);
    expect(to.vcpu.getMpState()).toBe(3);
  });

  test('without XSAVE there is no XCR0 to set', () => {
    const from = busy();
    const state = saveCpu(from.cpus[0], captureResetState(from.cpus[0].vcpu, []), handling(from));
    const to: LoopRig = new LoopRig([[]]);
    restoreCpu(to.cpus[0], { ...state, xcrs: [] }, handling(to));
    expect(to.vcpus[0].given).not.toContain('xcrs');
  });
});
