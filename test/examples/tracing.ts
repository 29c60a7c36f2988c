/** Listens to what happens to interrupts, and counts which way they went: by the APIC map or by a scan. Needs /dev/kvm. */
import { guestImage, Machine, type TraceEvent } from 'apiary';

const paths = new Map<string, number>();
function count(event: TraceEvent): void {
  if (event.kind === 'route') paths.set(event.path, (paths.get(event.path) ?? 0) + 1);
}

await using machine = await Machine.create({ cpus: 4, trace: true, timeoutMs: 120_000 });
machine.on('trace', count);
await machine.load(guestImage('storm'));
const { reason } = await machine.run();
console.log(reason, ...[...paths].map(([path, times]) => `${path}: ${times}`));
