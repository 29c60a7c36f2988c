/** Our APIC's events on a real vCPU, one step at a time: what goes into KVM, and in which order the guest takes it. */
import { afterEach, expect, test } from 'vitest';
import { ApicSystem, REG } from '../../src/apic/index.ts';
import { ExitReason, Vcpu } from '../../src/kvm/index.ts';
import { type Cpu, userCpu } from '../../src/machine/loop/cpu.ts';
import { captureResetState } from '../../src/machine/loop/cpu-state.ts';
import { enterGuest, Left } from '../../src/machine/loop/enter.ts';
import type { DevicePort } from '../../src/machine/shared/mailbox.ts';
import { nativeHost } from '../../src/machine/shared/native-host.ts';
import { SharedState } from '../../src/machine/shared/shared.ts';
import { type Guest, makeGuest } from './bindings-guest.ts';
import { describeKvm } from './support.ts';

const VECTOR = 0x31;
const NMI = 2;
/** What the guest's main loop and its two handlers write to; the handlers' ports are their vectors. */
const MAIN = 0xf4;
const RUN_BYTES = 0x3000;
const DELIVER_NMI = { destination: 0, deliveryMode: 4, vector: 0 };
const DELIVER_FIXED = { destination: 0, vector: VECTOR };
/** The software KVM may take an event an instruction late. */
const EXITS = 6;

let guest: Guest | undefined;

afterEach(() => {
  guest?.close();
  guest = undefined;
});

function makeCpu(): Cpu & { system: ApicSystem } {
  guest = makeGuest('e6f4 ebfc', { ifFlag: true }); // again: out 0xf4, al; jmp again
  const { memory } = guest;
  for (const [vector, handler] of [
    [VECTOR, 0x3000],
    [NMI, 0x3800],
  ] as const) {
    memory.set([handler & 0xff, handler >> 8, 0, 0], vector * 4);
    memory.set([0xe6, vector, 0xcf], handler); // out vector, al; iret
  }
  const vcpu = Vcpu.fromFd(guest.vcpu.fd, RUN_BYTES);
  const run = vcpu.mapRun();
  const system = new ApicSystem({ maxApics: 1 });
  const apic = system.addApic(0, { bootstrap: true });
  apic.writeMmio(REG.SPIV, 4, 0x1ff);
  const noDevices = {} as DevicePort; // no PIC interrupts, no level-triggered ones
  const reset = captureResetState(vcpu, []);
  const parts = { vcpuIndex: 0, apicId: 0, bootstrap: true, vcpu, run, shared: new SharedState(1, nativeHost) };
  return { system, ...userCpu({ ...parts, devices: noDevices, reset }, apic) };
}

/** Enters the guest. @returns the port it then wrote to; MAIN if it came back for something else */
function enter(cpu: Cpu): number {
  const { run } = cpu;
  expect(enterGuest(cpu)).toBe(Left.exit);
  return run.exitReason === ExitReason.IO ? run.ioPort : MAIN;
}

function portsAfter(cpu: Cpu): number[] {
  return Array.from({ length: EXITS }, () => {
    expect(cpu.interrupts.prepare(true)).toBe(true);
    return enter(cpu);
  }).filter((port) => port !== MAIN);
}

describeKvm('the user APIC on a vCPU', () => {
  test.each([
    ['NMI, then an interrupt', [DELIVER_NMI, DELIVER_FIXED], false],
    ['NMI, then an interrupt, with a look between them', [DELIVER_NMI, DELIVER_FIXED], true],
    ['an interrupt, then an NMI', [DELIVER_FIXED, DELIVER_NMI], false],
  ])('%s: the guest takes the NMI first, then the interrupt', (_name, messages, look) => {
    const cpu = makeCpu();
    expect(cpu.interrupts.prepare(true)).toBe(true);
    expect(enter(cpu)).toBe(MAIN);
    for (const message of messages) {
      expect(cpu.system.deliver(message)).toBe(1);
      if (look) cpu.interrupts.prepare(true);
    }
    expect(portsAfter(cpu)).toEqual([NMI, VECTOR]);
  });

  test('an NMI handler that allows interrupts takes them, while the next NMI waits for its end', () => {
    const cpu = makeCpu();
    // out 2, al; sti; mov cx, 0xffff; loop .; iret. The software KVM looks for interrupts only now and then.
    guest?.memory.set([0xe6, NMI, 0xfb, 0xb9, 0xff, 0xff, 0xe2, 0xfe, 0xcf], 0x3800);
    expect(cpu.interrupts.prepare(true)).toBe(true);
    expect(enter(cpu)).toBe(MAIN);
    expect(cpu.system.deliver(DELIVER_NMI)).toBe(1);
    for (let port = MAIN; port !== NMI; port = enter(cpu)) expect(cpu.interrupts.prepare(true)).toBe(true);
    expect(cpu.system.deliver(DELIVER_NMI)).toBe(1);
    expect(cpu.system.deliver(DELIVER_FIXED)).toBe(1);
    expect(portsAfter(cpu)).toEqual([VECTOR, NMI]);
  });

  test('two interrupts: by priority, one at a time', () => {
    const cpu = makeCpu();
    expect(cpu.interrupts.prepare(true)).toBe(true);
    expect(enter(cpu)).toBe(MAIN);
    const low = { ...DELIVER_FIXED, vector: 0x30 };
    guest?.memory.set([0x00, 0x34, 0, 0], 0x30 * 4);
    guest?.memory.set([0xe6, 0x30, 0xcf], 0x3400);
    expect(cpu.system.deliver(low)).toBe(1);
    expect(cpu.system.deliver(DELIVER_FIXED)).toBe(1);
    // The second has no higher priority class than the first, which nobody ends.
    expect(portsAfter(cpu)).toEqual([VECTOR]);
    cpu.system.apic(0).eoi();
    expect(portsAfter(cpu)).toEqual([0x30]);
  });

  test('an APIC that nobody touched is not looked at: nothing is pending, nothing is asked of KVM', () => {
    const cpu = makeCpu();
    expect(cpu.interrupts.prepare(true)).toBe(true);
    expect(enter(cpu)).toBe(MAIN);
    expect(cpu.interrupts.settled).toBe(true);
    expect(cpu.interrupts.prepare(false)).toBe(true);
    expect(cpu.run.requestInterruptWindow).toBe(false);
    cpu.apic?.writeMmio(REG.TPR, 4, 0x20);
    expect(cpu.interrupts.settled).toBe(false);
  });
});
