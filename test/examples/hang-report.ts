/** A guest that sleeps for ever, and what the machine says about it: while it does, and at its time limit. Needs /dev/kvm. */
import { guestImage, Machine } from 'apiary';

await using machine = await Machine.create({ timeoutMs: 20_000 });
await machine.load(guestImage('hangs'), { commandLine: 't' });
const running = machine.run();
await machine.waitFor('hangs: t');
let verdict = await machine.why(0);
while (!verdict.stuck && !machine.ended) verdict = await machine.why(0);
console.log(verdict.cause);
const { reason, detail } = await running;
console.log(`${reason}\n${detail}`);
