// Ends a machine's worker threads from outside, as a crash of V8 would, and prints how the runs ended.
import { readdirSync } from 'node:fs';
import { createRequire, syncBuiltinESMExports } from 'node:module';

const threads = createRequire(import.meta.url)('node:worker_threads');
const spawned = [];
threads.Worker = class extends threads.Worker {
  constructor(...parameters) {
    super(...parameters);
    spawned.push(this);
  }
};
syncBuiltinESMExports();
const { Machine } = await import('apiary');

const HALT = new Uint8Array([0xfa, 0xf4, 0xeb, 0xfd]); // cli; hlt; jmp back
const tasks = () => readdirSync('/proc/self/task').length;
const descriptors = () => readdirSync('/proc/self/fd').length;

/** A machine's worker 0 is a thread that an earlier one has left, if there is one. */
async function runAndKill(victim) {
  const machine = await Machine.create({ cpus: 2, threads: 2, keepHalted: true });
  await machine.load(HALT, { loadAddress: 0x1000 });
  const running = machine.run();
  await new Promise((resolve) => setTimeout(resolve, 50));
  void victim().terminate();
  return running;
}

const newest = () => spawned.at(-1);
const oldest = () => spawned[0];
await runAndKill(newest); // Node's own threads exist from now on
const before = { threads: tasks(), descriptors: descriptors() };
const runs = [await runAndKill(newest), await runAndKill(oldest)];
const left = { threads: tasks() - before.threads, descriptors: descriptors() - before.descriptors };
process.stdout.write(JSON.stringify({ runs, left }));
