/**
 * Why a CPU sleeps. Each case brings real APICs into the state in which a guest would hang, and names the cause that a
 * person would have to find; then the states in which nothing is wrong.
 */
import { describe, expect, it } from 'vitest';
import type { ApicSystem, ApicSystemOptions } from '../../../src/apic/index.ts';
import { collectVcpu, type VcpuFacts } from '../../../src/inspect/collect.ts';
import { describeMachine } from '../../../src/inspect/report.ts';
import type { IoApicPin, MachineSnapshot, PicView } from '../../../src/inspect/snapshot.ts';
import { type Verdict, why } from '../../../src/inspect/why.ts';
import {
  type CpuSpec,
  ICR,
  ICR2,
  LINT0,
  LVT_TIMER,
  MASKED,
  make,
  SPIV,
  TMICT,
  TPR,
  TSC_DEADLINE,
} from '../apic/helpers.ts';

const HALTED: VcpuFacts = { state: 'halted', registers: { rip: 0x1000n, interruptFlag: true } };
const RUNNING: VcpuFacts = { state: 'running', registers: { rip: 0x2000n, interruptFlag: true } };
const HALTED_IF0: VcpuFacts = { state: 'halted', registers: { rip: 0x1000n, interruptFlag: false } };
const WAITS_FOR_SIPI: VcpuFacts = { state: 'waiting for SIPI' };
const EXTINT = 0x700;
const SIPI = 0x4600;
const INIT = 0x4500;

interface Board {
  readonly ioapic?: readonly IoApicPin[];
  readonly pic?: PicView;
  readonly nowNanos?: number;
}

function machineOf(system: ApicSystem, facts: readonly VcpuFacts[], board: Board = {}): MachineSnapshot {
  return {
    nowNanos: 0,
    vcpus: facts.map((each, index) => collectVcpu(system, index, each)),
    map: system.map(),
    x2apicFormat: system.options.x2apicFormat,
    ioapic: [],
    pic: null,
    unclaimed: 0,
    ...board,
  };
}

function verdictOf(apicId: number, machine: MachineSnapshot): Verdict {
  const cpu = machine.vcpus.find((each) => each.apicId === apicId);
  if (!cpu) throw new Error('no such CPU');
  return why(cpu, machine);
}

const two = (options: ApicSystemOptions = {}, cpus: readonly CpuSpec[] = [[0], [0x23]]) => make(options, cpus);
const pin = (over: Partial<IoApicPin>): IoApicPin => ({
  pin: 5,
  vector: 0x51,
  masked: false,
  levelTriggered: true,
  remoteIrr: false,
  pending: true,
  targets: [0],
  ...over,
});

describe('a CPU that hangs, and why', () => {
  it('masked LVT: the timer ran out behind its mask', () => {
    const { system, apics } = make({}, [[0]]);
    apics[0].writeMmio(LVT_TIMER, 4, MASKED | 0x41);
    apics[0].writeMmio(TMICT, 4, 1000);
    apics[0].expireTimer(2_000_000);
    const verdict = verdictOf(0, machineOf(system, [HALTED]));
    expect(verdict).toMatchObject({ cause: 'timer masked', stuck: true });
    expect(verdict.text).toContain('LVT entry is masked');
  });

  it('IF=0: a vector waits and the CPU halted with interrupts off', () => {
    const { system } = two();
    system.signalMsi(0xfee23000, 0, 0x41);
    expect(verdictOf(0x23, machineOf(system, [RUNNING, HALTED_IF0]))).toMatchObject({
      cause: 'interrupts off',
      stuck: true,
      text: 'sleeps with interrupts off (IF=0): vector 0x41 waits in IRR; only an NMI or INIT wakes it',
    });
  });

  it('TPR: the vector is in IRR, its class is not over TPR', () => {
    const { system, apics } = two();
    apics[1].writeMmio(TPR, 4, 0x50);
    system.signalMsi(0xfee23000, 0, 0x41);
    expect(verdictOf(0x23, machineOf(system, [RUNNING, HALTED]))).toMatchObject({
      cause: 'task priority',
      text: 'vector 0x41 is in IRR, held back by TPR 0x50',
    });
  });

  it('missing EOI with a level line: what is in service, and the line that waits for its end', () => {
    const { system, apics } = two();
    system.signalMsi(0xfee00000, 0, 0xc051);
    expect(apics[0].acknowledge()).toBe(0x51);
    const machine = machineOf(system, [HALTED, HALTED], { ioapic: [pin({ remoteIrr: true })] });
    expect(verdictOf(0, machine)).toMatchObject({ cause: 'in service', stuck: true });
    expect(verdictOf(0, machine).text).toContain('GSI 5 is high and waits for that EOI');
    system.signalMsi(0xfee00000, 0, 0x31);
    expect(verdictOf(0, machineOf(system, [HALTED, HALTED])).text).toContain('held back by 0x51 in service');
  });

  it('an EOI that the I/O APIC never saw', () => {
    const { system } = two();
    const machine = machineOf(system, [HALTED, HALTED], { ioapic: [pin({ remoteIrr: true })] });
    expect(verdictOf(0, machine)).toMatchObject({ cause: 'remote IRR', stuck: true });
    expect(verdictOf(0x23, machine)).toMatchObject({ cause: 'nothing pending', stuck: false });
  });

  it('SIPI to nobody', () => {
    const { system, apics } = two();
    apics[0].writeMmio(ICR2, 4, 0x24 << 24);
    apics[0].writeMmio(ICR, 4, SIPI | 0x10);
    const verdict = verdictOf(0x23, machineOf(system, [RUNNING, WAITS_FOR_SIPI]));
    expect(verdict).toMatchObject({ cause: 'waiting for SIPI', stuck: true });
    expect(verdict.text).toContain("no SIPI found it: 0x0's SIPI 0x10 to 0x24 met nobody");
  });

  it('INIT without SIPI', () => {
    const { system, apics } = two();
    apics[0].writeMmio(ICR2, 4, 0x23 << 24);
    apics[0].writeMmio(ICR, 4, INIT);
    expect(verdictOf(0x23, machineOf(system, [RUNNING, WAITS_FOR_SIPI])).text).toContain(
      'an INIT came from 0x0, and no SIPI',
    );
  });

  it('self-IPI on a software-disabled APIC', () => {
    const { system, apics } = two({}, [[0], [0x23, 'disabled']]);
    apics[1].writeMmio(ICR, 4, 0x40041);
    const verdict = verdictOf(0x23, machineOf(system, [RUNNING, HALTED]));
    expect(verdict).toMatchObject({ cause: 'APIC disabled', stuck: true });
    expect(verdict.text).toContain("software-disabled (SVR bit 8 is 0): 0x23's 0x41 to self was dropped");
  });

  it('lost alias, gate off: 0x123 in xAPIC mode is only 0x23 in the map', () => {
    const { system, apics } = two({ x2apicFormat: false }, [[0], [0x123]]);
    apics[0].setApicBase(0xfee00c00, 0);
    apics[0].writeMsr(0x830, 0x41, 0x123);
    const verdict = verdictOf(0x123, machineOf(system, [RUNNING, HALTED]));
    expect(verdict).toMatchObject({ cause: 'message missed it', stuck: true });
    expect(verdict.text).toBe(
      "0x0's last message, 0x41 to 0x123, met nobody: gate off, by map, 0x123 is in xAPIC mode and answers to 0x23",
    );
  });

  it("waiting for another CPU's IPI that went to its alias", () => {
    const { system, apics } = two({ x2apicFormat: true }, [[0], [0x123], [0x23]]);
    apics[0].writeMmio(ICR2, 4, 0x23 << 24);
    apics[0].writeMmio(ICR, 4, 0x41);
    const machine = machineOf(system, [RUNNING, HALTED, HALTED]);
    expect(verdictOf(0x23, machine)).toMatchObject({ cause: 'message missed it', stuck: true });
    expect(verdictOf(0x23, machine).text).toContain('went to 0x123, its alias: gate on');
    expect(verdictOf(0x123, machine)).toMatchObject({ cause: 'about to wake' });
  });

  it('a deadline in the past with the entry masked', () => {
    const { system, apics } = make({}, [[0, 'x2apic']]);
    apics[0].writeMsr(0x832, 0x40000 | MASKED | 0x41, 0);
    apics[0].writeMsr(TSC_DEADLINE, 1, 0);
    apics[0].expireTimer(5_000_000);
    expect(verdictOf(0, machineOf(system, [HALTED]))).toMatchObject({ cause: 'timer masked', stuck: true });
  });

  it('PIC masked: IRQ 4 is raised, LINT0 would take it', () => {
    const { system, apics } = make({}, [[0]]);
    apics[0].writeMmio(LINT0, 4, EXTINT);
    const pic = { requested: 1 << 4, masked: 0xffff, inService: 0, output: false };
    const verdict = verdictOf(0, machineOf(system, [HALTED], { pic }));
    expect(verdict).toMatchObject({
      cause: 'PIC masked',
      stuck: true,
      text: 'IRQ 4 is raised and masked in the PIC (IMR 0xffff)',
    });
  });

  it('PIC unheard: its output is high, every LINT0 is masked', () => {
    const { system, apics } = make({}, [[0]]);
    apics[0].writeMmio(LINT0, 4, MASKED | EXTINT);
    const pic = { requested: 1, masked: 0, inService: 0, output: true };
    expect(verdictOf(0, machineOf(system, [HALTED], { pic }))).toMatchObject({ cause: 'PIC unheard', stuck: true });
  });

  it('I/O APIC masked: a level line is high behind the mask', () => {
    const { system } = two();
    const machine = machineOf(system, [HALTED, HALTED], { ioapic: [pin({ masked: true })] });
    expect(verdictOf(0, machine)).toMatchObject({ cause: 'I/O APIC masked', stuck: true });
  });
});

describe('a CPU that does not hang', () => {
  it.each<[string, VcpuFacts, string]>([
    ['runs', RUNNING, 'runs'],
    ['is parked', { state: 'parked' }, 'parked'],
    ['was never started', WAITS_FOR_SIPI, 'waiting for SIPI'],
    ['halts for the next interrupt', HALTED, 'nothing pending'],
    ['could not be asked for its registers', { state: 'halted' }, 'nothing pending'],
  ])('%s', (_, facts, cause) => {
    const { system } = two();
    expect(verdictOf(0x23, machineOf(system, [RUNNING, facts]))).toMatchObject({ cause, stuck: false });
  });

  it('waits for its timer', () => {
    const { system, apics } = make({}, [[0]]);
    apics[0].writeMmio(LVT_TIMER, 4, 0x41);
    apics[0].writeMmio(TMICT, 4, 100_000_000);
    const verdict = verdictOf(0, machineOf(system, [HALTED]));
    expect(verdict).toMatchObject({ cause: 'timer armed', stuck: false });
    expect(verdict.text).toContain('runs out in 200 ms');
  });

  it('is about to take an interrupt, an NMI, an INIT', () => {
    const { system } = two();
    system.signalMsi(0xfee23000, 0, 0x41);
    expect(verdictOf(0x23, machineOf(system, [RUNNING, HALTED]))).toMatchObject({
      cause: 'about to wake',
      stuck: false,
    });
    system.signalMsi(0xfee00000, 0, 0x400);
    expect(verdictOf(0, machineOf(system, [HALTED, HALTED])).text).toBe('is about to take an NMI');
  });

  it('takes an interrupt over the one in service', () => {
    const { system, apics } = two();
    system.signalMsi(0xfee00000, 0, 0x51);
    apics[0].acknowledge();
    system.signalMsi(0xfee00000, 0, 0x61);
    expect(verdictOf(0, machineOf(system, [HALTED, HALTED]))).toMatchObject({ cause: 'about to wake', stuck: false });
  });

  it('is about to start', () => {
    const { system, apics } = two();
    for (const command of [INIT, SIPI]) {
      apics[0].writeMmio(ICR2, 4, 0x23 << 24);
      apics[0].writeMmio(ICR, 4, command);
    }
    const verdict = verdictOf(0x23, machineOf(system, [RUNNING, WAITS_FOR_SIPI]));
    expect(verdict).toMatchObject({ cause: 'about to wake', stuck: false });
  });

  it('was reached by the message that names it', () => {
    const { system, apics } = two();
    apics[0].writeMmio(ICR2, 4, 0x23 << 24);
    apics[0].writeMmio(ICR, 4, 0x41);
    apics[1].acknowledge();
    apics[1].eoi();
    expect(verdictOf(0x23, machineOf(system, [RUNNING, HALTED]))).toMatchObject({
      cause: 'nothing pending',
      stuck: false,
    });
  });
});

describe('the report', () => {
  it('has every CPU, its verdict, the map and what the controllers hold back', () => {
    const { system, apics } = two();
    apics[1].writeMmio(TPR, 4, 0x50);
    apics[0].writeMmio(ICR2, 4, 0x23 << 24);
    apics[0].writeMmio(ICR, 4, 0x41);
    const machine = machineOf(system, [RUNNING, HALTED], { ioapic: [pin({ masked: true })] });
    expect(describeMachine({ ...machine, unclaimed: 3 })).toEqual([
      'CPU 0x0: running, rip 0x2000 IF=1, xapic',
      '  TPR 0x0 PPR 0x0, timer one-shot, off, LVT 0x10000',
      '  sent last: 0x41 to 0x23, by map to 0x23',
      '  it runs at rip 0x2000',
      'CPU 0x23: halted, rip 0x1000 IF=1, xapic',
      '  TPR 0x50 PPR 0x50 IRR 0x41, timer one-shot, off, LVT 0x10000',
      '  vector 0x41 is in IRR, held back by TPR 0x50',
      'APIC map: 2 IDs, logical mode none enabled (gate off)',
      'GSI 5: vector 0x51 level to 0x0, pending, masked',
      'accesses that no device claimed: 3',
    ]);
  });

  it('with many CPUs: those that are stuck first, the rest counted', () => {
    const cpus = Array.from({ length: 100 }, (_, id): CpuSpec => [id]);
    const { system, apics } = make({ maxApics: 100 }, cpus);
    apics[77].writeMmio(TPR, 4, 0x50);
    system.signalMsi(0xfee00000 | (77 << 12), 0, 0x41);
    const lines = describeMachine(
      machineOf(
        system,
        cpus.map(() => HALTED),
      ),
    );
    expect(lines[0]).toContain('CPU 0x4d: halted');
    expect(lines).toContain('and 84 more CPUs');
  });

  it('a software-enabled APIC is no prerequisite', () => {
    const { system, apics } = two();
    apics[1].writeMmio(SPIV, 4, 0xff);
    expect(describeMachine(machineOf(system, [RUNNING, WAITS_FOR_SIPI])).join('\n')).toContain('software-disabled');
  });
});
