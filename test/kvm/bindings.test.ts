/** src/kvm on the real KVM: a vCPU runs a few bytes, and every kind of exit, injection and state comes through. */
import { Cap, ExitReason, KvmError, MpState, MsrExitReason, Vcpu, type Vm, X2apicFlag } from 'apiary/kvm';
import { afterEach, describe, expect, test } from 'vitest';
import { type Guest, type GuestOptions, kvmProblem, makeGuest } from './bindings-guest.ts';

const problem = kvmProblem();
let guest: Guest | undefined;

function start(code: string, options?: GuestOptions): Guest {
  guest = makeGuest(code, options);
  return guest;
}

function rax(vcpu: Vcpu): bigint {
  return vcpu.getRegs().rax;
}

afterEach(() => {
  guest?.close();
  guest = undefined;
});

describe.skipIf(problem !== undefined)(`KVM bindings${problem === undefined ? '' : ` (skipped: ${problem})`}`, () => {
  describe('exits', () => {
    test('port output, port input and HLT', () => {
      // mov al, 0x55; out 0xf4, al; in ax, 0x60; hlt
      const { run, vcpu } = start('b055 e6f4 e560 f4');
      expect(run.run()).toBe(0);
      expect(run.describe()).toBe('KVM_EXIT_IO: out port 0xf4, 1 x 1 bytes');
      expect(run.ioValue()).toBe(0x55);
      expect(run.run()).toBe(0);
      expect(run.describe()).toBe('KVM_EXIT_IO: in port 0x60, 1 x 2 bytes');
      run.setIoValue(0, 0xbeef);
      expect(run.run()).toBe(0);
      expect(run.exitReason).toBe(ExitReason.HLT);
      expect(rax(vcpu) & 0xffffn).toBe(0xbeefn);
    });

    test('without an in-kernel APIC, its page is MMIO', () => {
      // mov eax, [0x20]; inc eax; mov [0x300], eax; hlt
      const { run } = start('66a12000 6640 66a30003 f4', { dataBase: 0xfee0_0000 });
      expect(run.run()).toBe(0);
      expect(run.exitReason).toBe(ExitReason.MMIO);
      expect([run.mmioAddress, run.mmioLength, run.mmioIsWrite]).toEqual([0xfee0_0020, 4, false]);
      run.setMmioValue(0x2300_0000);
      expect(run.run()).toBe(0);
      expect([run.mmioAddress, run.mmioLength, run.mmioIsWrite]).toEqual([0xfee0_0300, 4, true]);
      expect(run.mmioValue()).toBe(0x2300_0001);
      expect(run.run()).toBe(0);
      expect(run.exitReason).toBe(ExitReason.HLT);
    });

    test.each([
      ['IA32_APIC_BASE by the filter', 0x1b, MsrExitReason.FILTER],
      ['IA32_TSC_DEADLINE by the filter', 0x6e0, MsrExitReason.FILTER],
      ['the x2APIC ID as invalid', 0x802, MsrExitReason.INVAL],
      ['the x2APIC ICR as invalid', 0x830, MsrExitReason.INVAL],
      ['the last x2APIC MSR as invalid', 0x8ff, MsrExitReason.INVAL],
    ])('%s, reading and writing', (_name, msr, reason) => {
      // mov ecx, msr; rdmsr; inc edx; wrmsr; hlt
      const index = Buffer.from(new Uint32Array([msr]).buffer).toString('hex');
      const { run } = start(`66b9${index} 0f32 6642 0f30 f4`, { configure: (vm) => vm.trapApicMsrs() });
      expect(run.run()).toBe(0);
      expect([run.exitReason, run.msrIndex, run.msrReason]).toEqual([ExitReason.X86_RDMSR, msr, reason]);
      run.msrDataLow = 0xdead_beef;
      run.msrDataHigh = 0x1233;
      run.msrError = false;
      expect(run.run()).toBe(0);
      expect([run.exitReason, run.msrIndex, run.msrReason]).toEqual([ExitReason.X86_WRMSR, msr, reason]);
      expect([run.msrDataLow, run.msrDataHigh]).toEqual([0xdead_beef, 0x1234]);
      expect(run.run()).toBe(0);
      expect(run.exitReason).toBe(ExitReason.HLT);
    });

    test('an MSR error is #GP in the guest', () => {
      // mov ecx, 0x802; rdmsr; (never here: out 0xf4, al)      at 0x2000, #GP: hlt
      const { run, memory, vcpu } = start('66b902080000 0f32 e6f4', { configure: (vm) => vm.trapApicMsrs() });
      memory.set([0x00, 0x20, 0x00, 0x00], 13 * 4);
      memory[0x2000] = 0xf4;
      expect(run.run()).toBe(0);
      run.msrError = true;
      expect(run.run()).toBe(0);
      expect(run.exitReason).toBe(ExitReason.HLT);
      expect(vcpu.getRegs().rip).toBe(0x2001n);
    });

    test('a triple fault is a shutdown', () => {
      const { run, vcpu } = start('0f0b'); // ud2 in protected mode without an IDT
      const sregs = vcpu.getSregs();
      const flat = { base: 0n, limit: 0xffff_ffff, selector: 8, present: 1, dpl: 0, db: 1, s: 1, l: 0, g: 1, avl: 0 };
      const cs = { ...flat, type: 11, unusable: 0 };
      const ss = { ...flat, type: 3, unusable: 0, selector: 16 };
      vcpu.setSregs({ ...sregs, cr0: sregs.cr0 | 1n, cs, ss, ds: ss, es: ss, idt: { base: 0n, limit: 0 } });
      expect(run.run()).toBe(0);
      expect(run.exitReason).toBe(ExitReason.SHUTDOWN);
    });
  });

  describe('injection', () => {
    const VECTOR = 0x31;
    const HANDLER = 0x3000;
    const vectorTo = (memory: Uint8Array, vector: number): void => {
      memory.set([HANDLER & 0xff, HANDLER >> 8, 0, 0], vector * 4);
      memory.set([0xe6, 0x31, 0xcf], HANDLER); // out 0x31, al; iret
    };

    test('KVM_INTERRUPT is taken at the next entry when IF is set', () => {
      const { run, vcpu, memory } = start('e6f4 f4', { ifFlag: true });
      vectorTo(memory, VECTOR);
      expect(run.run()).toBe(0);
      expect([run.ioPort, run.ifFlag, run.readyForInterruptInjection]).toEqual([0xf4, true, true]);
      expect(vcpu.interrupt(VECTOR)).toBe(true);
      expect(run.run()).toBe(0);
      expect(run.ioPort).toBe(0x31);
      expect(run.run()).toBe(0);
      expect(run.exitReason).toBe(ExitReason.HLT);
    });

    test('an interrupt left in kvm_run is taken like one by ioctl, and once', () => {
      // again: out 0xf4, al; jmp again
      const { run, memory } = start('e6f4 ebfc', { ifFlag: true });
      vectorTo(memory, VECTOR);
      run.shareEvents(true);
      const ports: number[] = [];
      for (let exits = 0; exits < 6; exits++) {
        expect(run.run()).toBe(0);
        ports.push(run.ioPort);
        if (exits === 0 || exits === 3) {
          expect(run.readyForInterruptInjection).toBe(true);
          run.injectInterrupt(VECTOR);
        }
      }
      expect(ports).toEqual([0xf4, 0x31, 0xf4, 0xf4, 0x31, 0xf4]);
    });

    test('an interrupt left in kvm_run does not lose an NMI queued before or after it', () => {
      const { run, vcpu, memory } = start('e6f4 ebfc', { ifFlag: true });
      vectorTo(memory, VECTOR);
      memory.set([0x00, 0x38, 0, 0], 2 * 4);
      memory.set([0xe6, 0x02, 0xcf], 0x3800); // NMI: out 2, al; iret
      run.shareEvents(true);
      for (const nmiFirst of [true, false]) {
        expect(run.run()).toBe(0);
        expect([run.ioPort, run.readyForInterruptInjection]).toEqual([0xf4, true]);
        if (nmiFirst) vcpu.nmi();
        run.injectInterrupt(VECTOR);
        if (!nmiFirst) vcpu.nmi();
        const ports = new Set<number>();
        for (let exits = 0; exits < 4; exits++) {
          expect(run.run()).toBe(0);
          ports.add(run.ioPort);
        }
        expect(ports).toEqual(new Set([0x31, 0x02, 0xf4]));
      }
    });

    test('an interrupt window opens after STI and its shadow', () => {
      // out 0xf4, al; sti; jmp .
      // The software KVM looks only between batches of instructions: an exit that comes first hides the window.
      const { run } = start('e6f4 fb ebfe');
      expect(run.run()).toBe(0);
      expect([run.ifFlag, run.readyForInterruptInjection]).toEqual([false, false]);
      run.requestInterruptWindow = true;
      expect(run.run()).toBe(0);
      expect(run.exitReason).toBe(ExitReason.IRQ_WINDOW_OPEN);
      expect(run.readyForInterruptInjection).toBe(true);
    });

    test('an NMI is taken with IF clear', () => {
      const { run, vcpu, memory } = start('e6f4 f4');
      vectorTo(memory, 2);
      expect(run.run()).toBe(0);
      vcpu.nmi();
      expect(run.run()).toBe(0);
      expect(run.ioPort).toBe(0x31);
    });
  });

  describe('state', () => {
    test('registers, FPU, debug registers, XCR0 and events come back as written', () => {
      const { vcpu, system } = start('f4');
      const regs = { ...vcpu.getRegs(), r15: 0xfedc_ba98_7654_3210n, rax: 1n };
      vcpu.setRegs(regs);
      expect(vcpu.getRegs()).toEqual(regs);
      const sregs = { ...vcpu.getSregs(), cr2: 0x1234n, cr8: 5n };
      vcpu.setSregs(sregs);
      expect(vcpu.getSregs()).toEqual(sregs);
      const fpu = { ...vcpu.getFpu(), fcw: 0x27f, xmm: new Uint8Array(256).map((_, i) => i) };
      vcpu.setFpu(fpu);
      expect(vcpu.getFpu()).toEqual(fpu);
      const debugregs = { ...vcpu.getDebugregs(), db: [1n, 2n, 3n, 4n] };
      vcpu.setDebugregs(debugregs);
      expect(vcpu.getDebugregs().db).toEqual([1n, 2n, 3n, 4n]);
      if (system.checkExtension(Cap.XCRS) > 0) {
        const xcrs = vcpu.getXcrs();
        expect(xcrs).toContainEqual({ xcr: 0, value: 1n });
        vcpu.setXcrs(xcrs);
      }
      const events = vcpu.getVcpuEvents();
      vcpu.setVcpuEvents({ ...events, nmi: { ...events.nmi, masked: 1 } });
      expect(vcpu.getVcpuEvents().nmi.masked).toBe(1);
    });

    test('MSRs by index, and a refused one by name', () => {
      const { vcpu, system } = start('f4');
      // 64 bits on every host; of SYSENTER_ESP, AMD keeps 32.
      const kernelGsBase = { index: 0xc000_0102, value: 0xffff_8000_1234_5678n };
      vcpu.setMsrs([kernelGsBase, { index: 0x174, value: 8n }]);
      expect(vcpu.getMsrs([0x174, 0xc000_0102])).toEqual([{ index: 0x174, value: 8n }, kernelGsBase]);
      expect(system.getMsrIndexList()).toEqual(expect.arrayContaining([0x10, 0x174, 0xc000_0102]));
      expect(() => vcpu.getMsrs([0x174, 0x1234_5678])).toThrow(/^KVM_GET_MSRS MSR 0x12345678: EINVAL/);
    });

    test('CPUID, TSC frequency, MP state, translation', () => {
      const { vcpu, system } = start('f4');
      const leaf1 = system.getSupportedCpuid().find((entry) => entry.function === 1);
      expect(leaf1).toBeDefined();
      const readBack = vcpu.getCpuid2().find((entry) => entry.function === 1);
      expect(readBack?.eax).toBe(leaf1?.eax);
      expect(vcpu.getTscKhz()).toBeGreaterThan(100_000);
      expect(vcpu.getMpState()).toBe(MpState.RUNNABLE);
      expect(vcpu.translate(0x1000n)).toBe(0x1000n);
    });

    test('a second handle of the same descriptors sees the same vCPU', () => {
      const { vcpu, vm } = start('f4');
      const other = Vcpu.fromFd(vcpu.fd, vm.vcpuMmapSize);
      other.setRegs({ ...other.getRegs(), rbx: 77n });
      expect(vcpu.getRegs().rbx).toBe(77n);
    });
  });

  describe('errors', () => {
    test('the same APIC ID twice, and one that is too large', () => {
      const { vm, system } = start('f4');
      expect(() => vm.createVcpu(0)).toThrow(/^KVM_CREATE_VCPU with APIC ID 0x0: EEXIST/);
      const limit = system.checkExtension(Cap.MAX_VCPU_ID);
      expect(() => vm.createVcpu(limit)).toThrow(/^KVM_CREATE_VCPU with APIC ID .*: EINVAL \(.*KVM_CAP_MAX_VCPU_ID/);
      vm.createVcpu(limit - 1).close();
    });

    test('memory that is not page-aligned', () => {
      const { vm } = start('f4');
      expect(() => vm.setUserMemoryRegion(1, 0x10_0000, new Uint8Array(new SharedArrayBuffer(0x1001)))).toThrow(
        /^KVM_SET_USER_MEMORY_REGION slot 1/,
      );
    });

    test('APIC calls without an in-kernel APIC', () => {
      const { vcpu, vm } = start('f4');
      expect(() => vcpu.getLapic()).toThrow(KvmError);
      expect(vm.signalMsi(0xfee0_0000, 0, 0x31)).toBe(-22);
    });

    test('a closed descriptor', () => {
      const { vm } = start('f4');
      const vcpu = vm.createVcpu(1);
      vcpu.close();
      expect(() => vcpu.getMpState()).toThrow(/^KVM_GET_MP_STATE: EBADF/);
    });
  });

  describe('with a split irqchip', () => {
    const withIrqchip = (vm: Vm): void => {
      vm.enableCap(Cap.SPLIT_IRQCHIP, 24);
      vm.enableCap(Cap.X2APIC_API, X2apicFlag.API_USE_32BIT_IDS | X2apicFlag.API_DISABLE_BROADCAST_QUIRK);
    };

    test('an APIC page goes in and comes out', () => {
      const { vcpu } = start('f4', { configure: withIrqchip });
      const page = vcpu.getLapic();
      expect(page).toHaveLength(1024);
      page[0xf0] = 0xff; // SVR: vector 0xff, software-enabled
      page[0xf1] = 0x01;
      page[0x80] = 0x20; // TPR
      vcpu.setLapic(page);
      const into = new Uint8Array(1024);
      expect(vcpu.getLapic(into)).toBe(into);
      expect([into[0xf0], into[0xf1], into[0x80]]).toEqual([0xff, 0x01, 0x20]);
      expect(() => vcpu.setLapic(new Uint8Array(1023))).toThrow(RangeError);
    });

    test('KVM_SIGNAL_MSI says how many took it, and -EINVAL for a message that cannot be', () => {
      const { vm, vcpu } = start('f4', { configure: withIrqchip });
      expect(vm.signalMsi(0xfee0_0000, 0, 0x31)).toBe(0); // the APIC is software-disabled
      const page = vcpu.getLapic();
      page[0xf1] = 0x01;
      vcpu.setLapic(page);
      expect(vm.signalMsi(0xfee0_0000, 0, 0x31)).toBe(1);
      expect((vcpu.getLapic()[0x212] ?? 0) & 2).toBe(2); // IRR bit 0x31: word 1, bit 17
      expect(vm.signalMsi(0xfee0_0000, 0, 0x31)).toBe(1); // coalesced: it counts
      expect(vm.signalMsi(0xfee0_5000, 0, 0x31)).toBe(0); // APIC ID 5 is not in the map
      expect(vm.signalMsi(0xfee0_0000, 0x100, 0x31)).toBe(0); // nor 0x100, with 32-bit IDs
      expect(vm.signalMsi(0xfee0_0000, 0x1, 0x31)).toBe(-22); // reserved bits of the high word
    });

    test('a routed level-triggered vector exits at its EOI', () => {
      // sti; jmp .       at 0x3000: mov [0xb0], eax; iret
      const { vm, vcpu, run, memory } = start('fb ebfe', { configure: withIrqchip, dataBase: 0xfee0_0000 });
      memory.set([0x00, 0x30, 0x00, 0x00], 0x31 * 4);
      memory.set([0x66, 0xa3, 0xb0, 0x00, 0xcf], 0x3000);
      const page = vcpu.getLapic();
      page[0xf1] = 0x01;
      vcpu.setLapic(page);
      const LEVEL_ASSERTED = 0xc000;
      vm.setGsiRouting([{ gsi: 4, addressLow: 0xfee0_0000, addressHigh: 0, data: LEVEL_ASSERTED | 0x31 }]);
      expect(vm.signalMsi(0xfee0_0000, 0, LEVEL_ASSERTED | 0x31)).toBe(1);
      expect(run.run()).toBe(0);
      expect(run.describe()).toBe('KVM_EXIT_IOAPIC_EOI: vector 0x31');
    });
  });
});
