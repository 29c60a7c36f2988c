/** Boots a guest with two CPUs, hot-adds a third with an APIC ID over 0xff, and looks at its local APIC. Needs /dev/kvm. */
import { guestImage, Machine } from 'apiary';

await using machine = await Machine.create({ cpus: [0, 0x23], hotpluggable: [0x123], timeoutMs: 120_000 });
await machine.load(guestImage('hotplug'));
const running = machine.run();
await machine.waitFor('hotplug: ready cpus=0x0,0x23');
await machine.hotplug(0x123);
const [, started] = await machine.waitFor(/cpu id=0x123 xapic-id=0x23 started=(\d)/);
await machine.waitFor('ready for removal');
console.log('started', started, 'mode', machine.lapic(0x123).mode);
await machine.unplug(0x123);
await machine.waitFor('ready for return');
await machine.hotplug(0x123);
const { reason, status } = await running;
console.log(reason, status);
