/** Threads are kept from one machine to the next, and hold no process up. Guests are scripts: no KVM. */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const SCRIPT = new URL('./scripts/guests.mjs?hello', import.meta.url).href;
const CHECKOUT = fileURLToPath(new URL('../../..', import.meta.url));

/** A program of its own that ends by itself or is killed. */
function program(source: string, ...flags: string[]): Promise<{ status: number | null; output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [...flags, '--input-type=module', '--eval', source], {
      cwd: CHECKOUT,
      stdio: ['ignore', 'pipe', 'inherit'],
      timeout: 25_000,
      killSignal: 'SIGKILL',
    });
    let output = '';
    child.stdout.on('data', (chunk) => {
      output += chunk;
    });
    child.once('error', reject);
    child.once('close', (status) => resolve({ status, output }));
  });
}

const RUN = `
import { readdirSync, readFileSync } from 'node:fs';
import { Machine } from 'apiary';
const run = async () => {
  const machine = await Machine.create({ script: ${JSON.stringify(SCRIPT)}, cpus: [0, 1, 0x23], threads: 2 });
  await machine.load(new Uint8Array([0xf4]), { loadAddress: 0x1000 });
  return (await machine.run()).status;
};
const count = () => [readdirSync('/proc/self/task').length, readdirSync('/proc/self/fd').length];
`;

test('forty machines use the threads and descriptors of the first ten, and the program then ends', async () => {
  const { status, output } = await program(`${RUN}
    const statuses = new Set();
    for (let round = 0; round < 10; round++) statuses.add(await run());
    const before = count();
    for (let round = 0; round < 30; round++) statuses.add(await run());
    console.log(JSON.stringify([[...statuses], before, count()]));`);
  const [statuses, before, after] = JSON.parse(output) as [number[], number[], number[]];
  expect(statuses).toEqual([1]);
  expect(after).toEqual(before);
  expect(status).toBe(0);
});

test('threads do not take over what the program was started with', async () => {
  const { status, output } = await program(
    `${RUN} console.log(await run());`,
    '--no-warnings',
    '--conditions=none-such',
  );
  expect([status, output]).toEqual([0, '1\n']);
});

test('machines at once have threads of their own', async () => {
  const { status, output } = await program(`${RUN} console.log((await Promise.all([run(), run(), run()])).join());`);
  expect([status, output]).toEqual([0, '1,1,1\n']);
});
