/** One fault from the field each, kept mended: guests that check themselves, on our local APICs and on KVM's. */
import type { MachineOptions } from 'apiary';
import { expect, test } from 'vitest';
import { describeKvm, GUEST_OK, guestImage, runGuest, SLOW_HOST_MS } from './support.ts';

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
