/** Several threads on one system: nothing lost, nothing doubled, no half map (layout.ts, map.ts say why). */
import { Worker } from 'node:worker_threads';
import { expect, it } from 'vitest';
import { ApicSystem } from '../../../src/apic/index.ts';
import { takers, write } from './helpers.ts';

const SPIV = 0xf0;

function start(data: object): { done: Promise<number> } {
  const program = new URL('./threads-worker.ts', import.meta.url).href;
  const loadTypeScript = `import('tsx/esm/api').then((tsx) => { tsx.register(); return import('${program}'); })`;
  const worker = new Worker(loadTypeScript, { eval: true, workerData: data });
  return {
    done: new Promise((resolve, reject) => {
      worker.once('message', resolve);
      worker.once('error', reject);
    }),
  };
}

it('while two threads toggle modes, IDs and enables, no NMI to a mapped ID is lost and no lookup sees half a map', async () => {
  const system = new ApicSystem({ x2apicFormat: true });
  for (const id of [0, 0x23, 0x123, 0x124]) write(system.addApic(id), SPIV, 0x1ff);
  const control = new SharedArrayBuffer(1024);
  const go = new Int32Array(control);
  go[0] = 1;
  const threads = [2, 3].map((vcpuIndex) => start({ memory: system.memory, control, job: 'toggle', vcpuIndex }));
  const serial = system.map().serial;
  const patience = Date.now() + 15_000;
  while (Atomics.load(go, 1) < threads.length && Date.now() < patience) await new Promise((go) => setTimeout(go, 5));
  const sends = 30_000;
  let taken = 0;
  for (let i = 0; i < sends; i++) taken += system.signalMsi(0xfee23000, 0x100, 0x400); // 0x123
  let odd = 0;
  for (let i = 0; i < 1_000; i++) {
    const map = system.map();
    // Whatever the toggling threads do, these IDs belong to these vCPUs, and 0x24 to the vCPU that has it in xAPIC mode.
    const known = [0, 0x23, 0x123, 0x124].every((id, index) => map.physical.get(id) === index);
    const low = map.physical.get(0x24);
    if (!known || (low !== undefined && low !== 3) || map.state !== 'map') odd++;
  }
  Atomics.store(go, 0, 0);
  const toggles = await Promise.all(threads.map(({ done }) => done));
  expect(Math.min(...toggles)).toBeGreaterThan(0);
  expect([odd, taken, system.apic(2).takeNmis()]).toEqual([0, sends, sends]);
  expect(system.map().serial).toBeGreaterThan(serial + 10);
  // When the dust has settled, the map is what a rebuild makes of the registers.
  const settled = system.map();
  system.rebuildMap();
  expect({ ...system.map(), serial: 0 }).toEqual({ ...settled, serial: 0 });
});

it('two threads send while the owner acknowledges: every interrupt is taken exactly once', async () => {
  const system = new ApicSystem();
  const apic = system.addApic(0);
  write(apic, SPIV, 0x1ff);
  const control = new SharedArrayBuffer(4096);
  const counts = new Int32Array(control);
  counts[0] = 1;
  const rounds = 200;
  const threads = [0x40, 0x80].map((first) => start({ memory: system.memory, control, job: 'send', first, rounds }));
  const deadline = Date.now() + 20_000;
  const all = 2 * 32 * rounds;
  for (let got = 0; got < all && Date.now() < deadline; ) {
    const vector = apic.acknowledge();
    if (vector < 0) {
      await new Promise((resolve) => setImmediate(resolve));
      continue;
    }
    apic.eoi();
    Atomics.add(counts, vector, 1);
    Atomics.notify(counts, vector);
    got++;
  }
  Atomics.store(counts, 0, 0);
  await Promise.all(threads.map(({ done }) => done));
  const total = counts.slice(0x40, 0xa0).reduce((sum, count) => sum + count, 0);
  expect(total).toBe(all);
  expect(apic.highestRequested()).toBe(-1);
  expect(takers([apic], 0x40)).toEqual([]);
});
