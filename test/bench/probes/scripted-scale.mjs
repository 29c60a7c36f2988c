// scripted-scale.mjs CPUS: a machine of so many vCPUs on 2 workers whose guests are scripts, so without KVM: what is ours of
// creating and starting them. Prints {"createMs", "startMs", "loadMs", "rssBytes"}, as scale.mjs does.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Machine } from 'apiary';

const count = Number(process.argv[2]);
const begun = performance.now();
const machine = await Machine.create({
  cpus: count,
  x2apicApi: { use32bitIds: true },
  threads: 2,
  timeoutMs: 60_000,
  script: new URL('./started.mjs', import.meta.url).href,
});
const created = performance.now();
await machine.load(fileURLToPath(new URL('../../../guest/build/hello.elf', import.meta.url)));
const loaded = performance.now();
let online = 0;
const all = new Promise((resolve) => {
  machine.on('firstRun', () => {
    if (++online === count) resolve(true);
  });
});
const running = machine.run();
if (!(await Promise.race([all, running.then(() => false)]))) throw new Error(`${online} CPUs came`);
const started = performance.now();
const [, pages] = readFileSync('/proc/self/statm', 'latin1').split(' ');
await machine.stop();
process.stdout.write(
  JSON.stringify({
    createMs: created - begun,
    loadMs: loaded - created,
    startMs: started - loaded,
    rssBytes: Number(pages) * 4096,
  }),
);
