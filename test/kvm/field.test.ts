/** One fault from the field each, kept mended: guests that check themselves, on our local APICs and on KVM's. */
import type { Machine, MachineOptions } from 'apiary';
import { expect, test } from 'vitest';
import { assemble, describeKvm, EXIT_OK, GUEST_OK, guestImage, runGuest, SLOW_HOST_MS } from './support.ts';

const WITH_TWO_CPUS: readonly MachineOptions[] = [
  { cpus: 2, threads: 1 },
  { cpus: 2, threads: 2 },
  { cpus: 2, apic: 'kernel' },
];

const GUESTS: readonly (readonly [guest: string, what: string, machines: readonly MachineOptions[]])[] = [
  ['nmi-halt', 'an NMI that KVM holds when the guest executes HLT ends the HLT', WITH_TWO_CPUS],
  ['nmi-race', 'an NMI to a CPU that is about to halt is never late', WITH_TWO_CPUS],
  ['unhalt', 'delivery mode 3 ends HLT', WITH_TWO_CPUS],
  ['reset-msrs', 'a reset clears every MSR that the guest set', [{ reboot: true }, { reboot: true, apic: 'kernel' }]],
];

describeKvm('a fault that was there once is not back', () => {
  for (const [guest, what, machines] of GUESTS) {
    test.each(machines.map((options) => [JSON.stringify(options), options] as const))(
      `${what}: %s`,
      async (_name, options) => {
        const { result, text } = await runGuest(guestImage(`field/${guest}`), { ...options, timeoutMs: SLOW_HOST_MS });
        expect({ ...result, text }).toMatchObject({ reason: 'debug-exit', status: GUEST_OK });
      },
    );
  }
});

describeKvm('a CPU that was given back and comes once more', () => {
  const CPU = 1;
  test.each(['user', 'kernel'] as const)('has none of the MSRs that it had set (%s)', async (apic) => {
    const steps: [cue: string, step: (machine: Machine) => Promise<void>][] = [
      ['ready\n', (machine) => machine.hotplug(CPU)],
      ['ready for removal\n', (machine) => machine.unplug(CPU)],
      ['ready\n', (machine) => machine.hotplug(CPU)],
    ];
    const options = { cpus: 1, hotpluggable: [CPU], apic, timeoutMs: SLOW_HOST_MS };
    const { result, text } = await runGuest(guestImage('field/return-msrs'), options, (machine) => {
      let said = '';
      machine.on('serial', (chunk) => {
        said += chunk.toString('latin1');
        const [next] = steps;
        if (next === undefined || !said.includes(next[0])) return;
        said = said.slice(said.indexOf(next[0]) + next[0].length);
        steps.shift();
        void next[1](machine);
      });
    });
    expect({ ...result, text }).toMatchObject({ reason: 'debug-exit', status: GUEST_OK });
    expect(text).toBe('ready\nready for removal\nready\nlooked\n');
  });
});

const HALT = 'cli\n 9: hlt\n jmp 9b\n';

describeKvm('a guest whose CPUs are all halted with interrupts off', () => {
  test.each([1, 2])('ends the run, and is told as such (%i threads)', async (threads) => {
    const { result } = await runGuest(assemble(HALT), { cpus: 3, threads, timeoutMs: SLOW_HOST_MS });
    expect(result).toMatchObject({
      reason: 'halted',
      status: 14,
      detail: expect.stringMatching(/^every CPU is halted/),
    });
  });

  test('goes on if it is asked to', async () => {
    const { result } = await runGuest(assemble(HALT), { keepHalted: true, timeoutMs: 300 });
    expect(result.reason).toBe('timeout');
  });

  test('waits where a device may send an NMI: the timer, through an I/O APIC entry of that mode', async () => {
    // PIT channel 0 in mode 0 counts down once; pin 2 delivers an NMI, whose handler ends the run.
    const source = `
      movw $nmi, 8
      movw $0, 10
      cli
      lgdtl gdtr
      mov %cr0, %eax
      or $1, %al
      mov %eax, %cr0
      mov $8, %cx
      mov %cx, %fs
      and $0xfe, %al
      mov %eax, %cr0
      mov $0xfec00000, %ebx
      movl $0x14, %fs:(%ebx)
      movl $0x400, %fs:0x10(%ebx)
      mov $0x30, %al
      out %al, $0x43
      mov $0xff, %al
      out %al, $0x40
      out %al, $0x40
      9: hlt
      jmp 9b
      nmi: ${EXIT_OK}
      gdtr: .word 15
      .long gdt
      gdt: .quad 0, 0x00cf92000000ffff`;
    expect((await runGuest(assemble(source), { timeoutMs: SLOW_HOST_MS })).result.status).toBe(GUEST_OK);
  });
});
