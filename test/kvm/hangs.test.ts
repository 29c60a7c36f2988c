/**
 * Guests that sleep for ever, each for another reason (guest/hangs.S): the machine names the right one. And what it says of
 * guests that do not hang: never that something is stuck.
 */
import { Machine, type MachineOptions } from 'apiary';
import { expect, test } from 'vitest';
import { describeKvm, guestImage } from './support.ts';

interface Hang {
  readonly letter: string;
  readonly asked?: number;
  readonly options?: MachineOptions;
  readonly cause: string;
  readonly text: RegExp;
}

const gateOn = { use32bitIds: true };
const HANGS: readonly Hang[] = [
  { letter: 'l', cause: 'timer masked', text: /timer ran out, but the timer's LVT entry is masked/ },
  {
    letter: 'i',
    asked: 0x23,
    options: { cpus: [0, 0x23] },
    cause: 'interrupts off',
    text: /interrupts off \(IF=0\): vector 0x41 waits in IRR/,
  },
  { letter: 't', cause: 'task priority', text: /vector 0x41 is in IRR, held back by TPR 0x50/ },
  { letter: 'e', cause: 'in service', text: /0x51 is in service and no EOI came for it; GSI 5 is high/ },
  { letter: 's', asked: 0x23, options: { cpus: [0, 0x23] }, cause: 'waiting for SIPI', text: /to 0x24 met nobody/ },
  { letter: 'd', cause: 'APIC disabled', text: /software-disabled .* 0x41 to self was dropped/ },
  {
    letter: 'a',
    asked: 0x123,
    options: { cpus: [0, 0x123] },
    cause: 'waiting for SIPI',
    text: /to 0x123 met nobody: gate off, by map, 0x123 is in xAPIC mode and answers to 0x23/,
  },
  {
    letter: 'o',
    asked: 0x23,
    options: { cpus: [0, 0x123, 0x23], x2apicApi: gateOn },
    cause: 'waiting for SIPI',
    text: /to 0x23 went to 0x123, its alias: gate on/,
  },
  { letter: 'p', cause: 'timer masked', text: /TSC deadline has passed, but the timer's LVT entry is masked/ },
  { letter: 'q', cause: 'PIC masked', text: /IRQ 5 is raised and masked in the PIC/ },
];

async function verdictsOf(letter: string, options: MachineOptions = {}) {
  const machine = await Machine.create(options);
  try {
    await machine.load(guestImage('hangs'), { commandLine: letter });
    const said = new Promise<void>((resolve) => {
      machine.on('serial', (chunk) => String(chunk).includes('\n') && resolve());
    });
    void machine.run();
    await said;
    await expect
      .poll(async () => (await machine.inspect()).vcpus.some(({ state }) => state === 'running'), { timeout: 20_000 })
      .toBe(false);
    return await Promise.all(machine.cpus.map((apicId) => machine.why(apicId)));
  } finally {
    await machine.stop();
  }
}

describeKvm('a guest that hangs', () => {
  test.each(HANGS)('$letter: $cause', async ({ letter, asked = 0, options, cause, text }) => {
    const verdict = (await verdictsOf(letter, options)).find(({ apicId }) => apicId === asked);
    expect(verdict).toMatchObject({ cause, stuck: true });
    expect(verdict?.text).toMatch(text);
  });
});

describeKvm('a guest that does not hang', () => {
  test('sleeps between the ticks of its timer', async () => {
    const [verdict] = await verdictsOf('n');
    expect(verdict).toMatchObject({ stuck: false });
  });
});
