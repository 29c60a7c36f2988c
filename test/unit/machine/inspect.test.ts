/** A machine that is asked while it runs, and that tells at its time limit what each CPU was doing. Guests are scripts. */
import { ConfigError, describeMachine, Machine, type MachineOptions } from 'apiary';
import { afterEach, expect, test } from 'vitest';

const SCRIPTS = new URL('./scripts/guests.mjs', import.meta.url).href;
const machines: Machine[] = [];
afterEach(async () => {
  for (const machine of machines.splice(0)) await machine.stop();
});

async function start(guest: string, options: MachineOptions = {}): Promise<Machine> {
  const machine = await Machine.create({ script: `${SCRIPTS}?${guest}`, ...options });
  machines.push(machine);
  await machine.load(Uint8Array.of(0xf4), { loadAddress: 0x1000 });
  return machine;
}

test('says why a CPU sleeps while it does', async () => {
  const machine = await start('hang-tpr');
  void machine.run();
  await expect.poll(async () => (await machine.why(0)).cause).toBe('task priority');
  expect(await machine.why(0)).toEqual({
    apicId: 0,
    cause: 'task priority',
    stuck: true,
    text: 'vector 0x41 is in IRR, held back by TPR 0x50',
  });
  const { vcpus, unclaimed, pic } = await machine.inspect();
  expect(vcpus[0]).toMatchObject({ apicId: 0, state: 'halted', registers: { interruptFlag: expect.any(Boolean) } });
  expect([unclaimed, pic?.output]).toEqual([1, false]);
  await expect(machine.why(7)).rejects.toThrow(ConfigError);
});

test('tells at the time limit, and after the end still', async () => {
  const machine = await start('hang-tpr', { timeoutMs: 500, cpus: [0, 0x23] });
  const { reason, detail } = await machine.run();
  expect(reason).toBe('timeout');
  expect(detail).toContain('CPU 0x0: halted');
  expect(detail).toContain('vector 0x41 is in IRR, held back by TPR 0x50');
  expect(detail).toContain('CPU 0x23:');
  expect(describeMachine(await machine.inspect()).join('\n')).toContain('APIC map: 2 IDs');
});

test('a run that the guest ends itself has no such report', async () => {
  const { reason, detail } = await (await start('hello')).run();
  expect([reason, detail]).toEqual(['debug-exit', undefined]);
});
