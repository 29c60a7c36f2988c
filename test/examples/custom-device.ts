/** A machine with a device of one's own (post-card.mjs), and a guest of nine bytes that uses it. Needs /dev/kvm. */
import { Machine } from 'apiary';

/** mov $0x42, %al; out %al, $0x80; in $0x80, %al; out %al, $0xf4; hlt */
const GUEST = Uint8Array.of(0xb0, 0x42, 0xe6, 0x80, 0xe4, 0x80, 0xe6, 0xf4, 0xf4);

await using machine = await Machine.create({ devices: [new URL('./post-card.mjs', import.meta.url)] });
await machine.load(GUEST, { loadAddress: 0x1000 });
const { status } = await machine.run();
process.stdout.write(machine.output.text);
console.log(`read back 0x${(status >> 1).toString(16)}`);
