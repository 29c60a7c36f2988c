/** Each exit reason, by what the devices, the APIC and the guest see of it. Numbers are those of <linux/kvm.h>. */
import { describe, expect, test } from 'vitest';
import type { ScriptedExit } from '../../../src/machine/loop/scripted-vcpu.ts';
import { EOI, HLT, LoopRig } from './loop-rig.ts';

const REASON = {
  unknown: 0,
  exception: 1,
  io: 2,
  debug: 4,
  hlt: 5,
  mmio: 6,
  windowOpen: 7,
  shutdown: 8,
  failEntry: 9,
  intr: 10,
  setTpr: 11,
  internalError: 17,
  systemEvent: 24,
  ioapicEoi: 26,
  rdmsr: 29,
  wrmsr: 30,
} as const;
const APIC = 0xfee0_0000;

/** Runs one exit. */
function exit(step: ScriptedExit, prepare: (rig: LoopRig) => void = () => {}): LoopRig {
  const rig: LoopRig = new LoopRig([[{ ...step, ifFlag: true }, () => rig.end]]);
  prepare(rig);
  rig.loop();
  rig.said.splice(0, rig.said.indexOf('first run 0') + 1);
  return rig;
}

describe('port I/O', () => {
  test.each([1, 2, 4])('out, %i bytes', (size) => {
    const { said } = exit({ exitReason: REASON.io, ioIsOut: true, ioPort: 0xcf8, ioSize: size, ioData: [0x12] });
    expect(said).toEqual([`pio write cf8 ${size} 12`]);
  });

  test('in: the guest has the answer', () => {
    const ioData = [0];
    const { said } = exit({ exitReason: REASON.io, ioPort: 0x3fd, ioSize: 1, ioData }, (rig) => {
      rig.answer = 0x60;
    });
    expect(said).toEqual(['pio read 3fd 1']);
    expect(ioData).toEqual([0x60]);
  });

  test('a string instruction: each item, in order', () => {
    const { said } = exit({ exitReason: REASON.io, ioIsOut: true, ioPort: 0x3f8, ioSize: 1, ioData: [0x61, 0x62] });
    expect(said).toEqual(['pio write 3f8 1 61', 'pio write 3f8 1 62']);
    const ioData = [0, 0, 0];
    exit({ exitReason: REASON.io, ioPort: 0x3fd, ioSize: 2, ioData }, (rig) => {
      rig.answer = 7;
    });
    expect(ioData).toEqual([7, 7, 7]);
  });
});

describe('MMIO', () => {
  test.each([
    [1, [0x11], '11'],
    [2, [0x11, 0x22], '2211'],
    [4, [0x11, 0x22, 0x33, 0x84], '84332211'],
  ])('a write of %i bytes is one access', (size, mmioData, value) => {
    const { said } = exit({ exitReason: REASON.mmio, mmioAddress: 0xfec0_0010, mmioIsWrite: true, mmioData });
    expect(said).toEqual([`mmio write fec00010 ${size} ${value}`]);
  });

  test.each([
    [3, ['2 2211', '1 33']],
    [5, ['4 44332211', '1 55']],
    [6, ['4 44332211', '2 6655']],
    [7, ['4 44332211', '2 6655', '1 77']],
    [8, ['4 44332211', '4 88776655']],
  ])('a write of %i bytes goes in pieces, low address first', (length, pieces) => {
    const mmioData = [0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88].slice(0, length);
    const { said } = exit({ exitReason: REASON.mmio, mmioAddress: 0x1000, mmioIsWrite: true, mmioData });
    let at = 0x1000;
    const expected = pieces.map((piece) => {
      const line = `mmio write ${at.toString(16)} ${piece}`;
      at += Number(piece[0]);
      return line;
    });
    expect(said).toEqual(expected);
  });

  test('the first bytes of the APIC page are its own, though no register is there', () => {
    const { said } = exit({ exitReason: REASON.mmio, mmioAddress: APIC, mmioData: [0, 0, 0, 0] });
    expect(said).toEqual([]);
  });

  test('a read of 4 bytes, and of 7 in pieces', () => {
    const four = [0, 0, 0, 0];
    const answer = (rig: LoopRig): void => {
      rig.answer = 0x8877_6655;
    };
    expect(exit({ exitReason: REASON.mmio, mmioAddress: 0x2000, mmioData: four }, answer).said).toEqual([
      'mmio read 2000 4',
    ]);
    expect(four).toEqual([0x55, 0x66, 0x77, 0x88]);
    const seven = [0, 0, 0, 0, 0, 0, 0];
    const { said } = exit({ exitReason: REASON.mmio, mmioAddress: 0x2000, mmioData: seven }, answer);
    expect(said).toEqual(['mmio read 2000 4', 'mmio read 2004 2', 'mmio read 2006 1']);
    expect(seven).toEqual([0x55, 0x66, 0x77, 0x88, 0x55, 0x66, 0x55]);
  });

  test('the APIC page is the CPU s own: no device hears of it', () => {
    const rig = exit({
      exitReason: REASON.mmio,
      mmioAddress: APIC + 0x80,
      mmioIsWrite: true,
      mmioData: [0x20, 0, 0, 0],
    });
    expect(rig.said).toEqual([]);
    expect(rig.system.apic(0).readMmio(0x80, 4)).toBe(0x20);
    const mmioData = [0, 0, 0, 0];
    exit({ exitReason: REASON.mmio, mmioAddress: APIC + 0xf0, mmioData });
    expect(mmioData).toEqual([0xff, 1, 0, 0]);
    const eight = [1, 1, 1, 1, 1, 1, 1, 1];
    exit({ exitReason: REASON.mmio, mmioAddress: APIC + 0xf0, mmioData: eight }, (rig) => {
      rig.cpus[0].apic?.writeMsr(0x1b, 0xfee0_0100, 0); // disabled: all ones
    });
    expect(eight).toEqual([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
  });

  test.each([
    ['the last byte before it', APIC - 1],
    ['the first byte after it', APIC + 0x1000],
  ])('%s is a device s', (_what, address) => {
    const { said } = exit({ exitReason: REASON.mmio, mmioAddress: address, mmioData: [0] });
    expect(said).toEqual([`mmio read ${address.toString(16)} 1`]);
  });

  test('the page follows IA32_APIC_BASE', () => {
    const { said } = exit({ exitReason: REASON.mmio, mmioAddress: 0xfed4_0080, mmioData: [0, 0, 0, 0] }, (rig) => {
      rig.cpus[0].apic?.writeMsr(0x1b, 0xfed4_0900, 0);
    });
    expect(said).toEqual([]);
  });

  test('EOI of a level-triggered interrupt reaches the devices', () => {
    const { said } = exit(
      { exitReason: REASON.mmio, mmioAddress: APIC + EOI, mmioIsWrite: true, mmioData: [0, 0, 0, 0] },
      (rig) => {
        rig.system.deliver({ destination: 0, vector: 0x41, trigMode: true });
        rig.system.apic(0).acknowledge();
      },
    );
    expect(said).toEqual(['eoi 41']);
  });
});

describe('MSRs', () => {
  test('a read that the APIC answers', () => {
    const rig = exit({ exitReason: REASON.rdmsr, msrIndex: 0x1b });
    const { run } = rig.cpus[0];
    expect([run.msrDataLow >>> 0, run.msrDataHigh]).toEqual([0xfee0_0900, 0]);
    expect(rig.vcpus[0].taken).toEqual([]);
  });

  test('both halves of a wide one: the x2APIC ICR', () => {
    const rig = exit({ exitReason: REASON.rdmsr, msrIndex: 0x830 }, ({ cpus: [cpu] }) => {
      cpu.interrupts.startInX2apicMode();
      cpu.apic?.writeMsr(0x830, 0x8031, 7);
    });
    const { run } = rig.cpus[0];
    expect([run.msrDataLow, run.msrDataHigh]).toEqual([0x8031, 7]);
  });

  test.each([
    ['read', REASON.rdmsr],
    ['write', REASON.wrmsr],
  ])('a %s that it refuses is #GP', (_what, exitReason) => {
    const rig = exit({ exitReason, msrIndex: 0x80b });
    expect(rig.vcpus[0].taken).toEqual(['#GP']);
  });

  test('a write', () => {
    const rig = exit({ exitReason: REASON.wrmsr, msrIndex: 0x1b, msrDataLow: 0xfee0_0d00, msrDataHigh: 0 });
    expect(rig.system.apic(0).mode).toBe('x2apic');
    expect(rig.cpus[0].vcpu.getSregs().apicBase).toBe(0xfee0_0d00n);
  });
});

test('HLT: the vCPU leaves the guest until something comes', () => {
  const rig: LoopRig = new LoopRig([[HLT, () => rig.end]]);
  rig.host.whileAsleep.push(() => rig.send(0x31));
  rig.loop();
  expect(rig.vcpus[0].taken).toEqual(['0x31']);
});

test.each([
  ['KVM_EXIT_IRQ_WINDOW_OPEN', REASON.windowOpen],
  ['KVM_EXIT_SET_TPR', REASON.setTpr],
  ['KVM_EXIT_INTR', REASON.intr],
])('%s asks for nothing', (_name, exitReason) => {
  const rig = exit({ exitReason });
  expect(rig.said).toEqual([]);
  expect(rig.vcpus[0].runs).toBe(2);
});

test('KVM_EXIT_IOAPIC_EOI reaches the devices', () => {
  expect(exit({ exitReason: REASON.ioapicEoi, eoiVector: 0x55 }).said).toEqual(['eoi 55']);
});

describe('the end', () => {
  test.each([
    ['KVM_EXIT_SHUTDOWN is a triple fault', { exitReason: REASON.shutdown }, /^end triple-fault 10 .*triple fault/],
    ['KVM_SYSTEM_EVENT_SHUTDOWN', { exitReason: REASON.systemEvent, systemEventType: 1 }, /^end shutdown 0$/],
    ['KVM_SYSTEM_EVENT_RESET', { exitReason: REASON.systemEvent, systemEventType: 2 }, /^end reset 0$/],
    ['KVM_SYSTEM_EVENT_CRASH', { exitReason: REASON.systemEvent, systemEventType: 3 }, /^end shutdown 0$/],
    [
      'KVM_EXIT_INTERNAL_ERROR',
      { exitReason: REASON.internalError, internalSuberror: 3 },
      /^end internal-error 10 vCPU/,
    ],
    ['KVM_EXIT_FAIL_ENTRY', { exitReason: REASON.failEntry }, /^end internal-error 10 vCPU/],
    ['KVM_EXIT_UNKNOWN', { exitReason: REASON.unknown }, /^end internal-error 10 vCPU/],
    ['a reason that nobody knows', { exitReason: 999 }, /^end internal-error 10 vCPU/],
  ])('%s', (_name, step, expected) => {
    const { said } = exit(step);
    expect(said).toHaveLength(1);
    expect(said[0]).toMatch(expected);
  });

  test('INT3 that KVM cannot interpret is delivered, and the guest goes on', () => {
    const rig = exit(
      { exitReason: REASON.internalError, internalSuberror: 1, instruction: Uint8Array.of(0xcc) },
      ({ cpus }) => {
        cpus[0].vcpu.setSregs({ ...cpus[0].vcpu.getSregs(), cr0: 0x11n });
      },
    );
    expect(rig.said).toEqual([]);
    expect(rig.vcpus[0].taken).toEqual(['#3']);
    expect(rig.cpus[0].vcpu.getRegs().rip).toBe(0xfff1n);
  });
});
