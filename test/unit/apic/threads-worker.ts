/**
 * A thread that attaches to a system of APICs and does one thing to it, as a worker of the machine would. Run through tsx.
 * Word 0 of `control` is 1 while the main thread wants it to go on, word 1 how many have
 * started to toggle; `words[vector]` counts how often the main thread took it.
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
  Atomics.add(words, 1, 1);
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
  const burst = Array.from({ length: 32 }, (_, i) => first + i);
  for (let round = 1; round <= rounds; round++) {
    for (const vector of burst) {
      if (system.signalMsi(0xfee00000, 0, vector) !== 1) throw new Error(`round ${round}: ${vector} was not taken`);
    }
    // A second request of a vector would merge with one that is still in IRR: wait until each was acknowledged.
    for (const vector of burst) {
      while (Atomics.load(words, vector) < round) {
        if (Atomics.load(words, 0) !== 1) throw new Error(`round ${round}: ${vector} was lost`);
        Atomics.wait(words, vector, round - 1, 5);
      }
      if (Atomics.load(words, vector) > round) throw new Error(`round ${round}: ${vector} came twice`);
    }
  }
  parentPort?.postMessage(rounds);
}
