// scale.mjs CPUS: creates and starts that many vCPUs on 2 workers. Prints {"createMs", "startMs", "rssBytes"}: until
// Machine.create answered, from there until every CPU has run, and the process's resident memory then.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Machine } from 'apiary';

const count = Number(process.argv[2]);
const begun = performance.now();
const machine = await Machine.create({
  cpus: Array.from({ length: count }, (_, id) => id),
  x2apicApi: { use32bitIds: true },
  threads: 2,
  timeoutMs: 300_000,
});
const created = performance.now();
await machine.load(fileURLToPath(new URL('../../../guest/build/bench-start.elf', import.meta.url)));
let text = '';
const online = new Promise((resolve) => {
  machine.on('serial', (chunk) => {
    text += chunk;
    if (text.includes(`online ${count}\n`)) resolve(true);
  });
});
const running = machine.run();
if (!(await Promise.race([online, running.then(() => false)]))) throw new Error(`the guest said: ${text}`);
const started = performance.now();
const [, pages] = readFileSync('/proc/self/statm', 'latin1').split(' ');
await machine.stop();
process.stdout.write(
  JSON.stringify({ createMs: created - begun, startMs: started - created, rssBytes: Number(pages) * 4096 }),
);
