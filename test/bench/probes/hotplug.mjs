// hotplug.mjs SAMPLES: milliseconds from `machine.hotplug()` to the new CPU's first instruction, for CPUs that never were
// there before, into a guest that sleeps. Prints a JSON array.
import { fileURLToPath } from 'node:url';
import { Machine } from 'apiary';

const FIRST_ID = 0x100;
const samples = Number(process.argv[2]);
const ids = Array.from({ length: samples }, (_, index) => FIRST_ID + index);
const nowNanos = () => Number(process.hrtime.bigint()); // CLOCK_MONOTONIC, as firstRun's

const machine = await Machine.create({ cpus: [0], hotpluggable: ids, x2apicApi: { use32bitIds: true }, timeoutMs: 30_000 });
await machine.load(fileURLToPath(new URL('../../../guest/build/bench-hotplug.elf', import.meta.url)));
const ready = new Promise((resolve) => machine.once('serial', resolve));
const running = machine.run();
await ready;
const millis = [];
for (const id of ids) {
  const started = new Promise((resolve) => {
    const listener = (apicId, nanos) => {
      if (apicId !== id) return;
      machine.off('firstRun', listener);
      resolve(nanos);
    };
    machine.on('firstRun', listener);
  });
  await new Promise((resolve) => setTimeout(resolve, 20)); // the guest is asleep again
  const called = nowNanos();
  await machine.hotplug(id);
  const first = await Promise.race([started, running.then(() => Number.NaN)]);
  millis.push((first - called) / 1e6);
}
await machine.stop();
process.stdout.write(JSON.stringify(millis));
