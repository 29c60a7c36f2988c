/**
 * A thread that attaches to a system of APICs and does one thing to it, as a worker of the machine would. Run through tsx.
 * Word 0 of `control` is 1 while the main thread wants it to go on; `words[vector]` counts what the main thread took.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { ApicSystem } from '../../../src/apic/index.ts';

const { memory, control, job, vcpuIndex, first, rounds } = workerData as {
  memory: SharedArrayBuffer;
  control: SharedArrayBuffer;
  job: 'toggle' | 'send';
  vcpuIndex: number;
  first: number;
  rounds: number;
};
const words = new Int32Array(control);
const system = ApicSystem.attach(memory);

if (job === 'toggle') {
  const apic = system.apic(vcpuIndex);
  let toggles = 0;
  while (Atomics.load(words, 0) === 1) {
    apic.setApicBaseFromHost(0xfee00c00, 0);
    apic.writeMsr(0x80f, 0xff, 0);
    apic.setApicBaseFromHost(0xfee00800, 0);
    apic.writeMmio(0xd0, 4, 0x02000000);
    apic.writeMmio(0xf0, 4, 0x1ff);
    toggles++;
  }
  parentPort?.postMessage(toggles);
} else {
  for (let i = 0; i < rounds; i++) {
    const vector = first + (i & 31);
    const taken = Atomics.load(words, vector);
    if (system.signalMsi(0xfee00000, 0, vector) !== 1) throw new Error(`round ${i}: not taken`);
    // The next request of this vector would merge with one that is still in IRR: wait until it was acknowledged.
    while (Atomics.load(words, vector) === taken) {
      if (Atomics.load(words, 0) !== 1) throw new Error(`round ${i}: vector ${vector} was lost`);
    }
  }
  parentPort?.postMessage(rounds);
}
