/** Two machines at once, one guest, other rules: what differs is what the guest can tell. Needs /dev/kvm. */
import { type Behaviour, guestImage, Machine } from 'apiary';

async function routes(behaviour: Behaviour): Promise<string[]> {
  await using machine = await Machine.create({ cpus: [0, 0x23], behaviour, timeoutMs: 120_000 });
  await machine.load(guestImage('hotplug'));
  const running = machine.run();
  await machine.waitFor('hotplug: ready cpus');
  await machine.hotplug(0x123);
  await machine.waitFor('ready for removal');
  await machine.stop();
  await running;
  return machine.output.lines.filter((line) => line.startsWith('ipi '));
}

const [kvm, hardware] = await Promise.all([routes('kvm'), routes('hardware')]);
for (const [i, line] of kvm.entries())
  if (line !== hardware[i]) console.log(`kvm:      ${line}\nhardware: ${hardware[i]}`);
