// A worker that runs one vCPU, for bindings-kick.test.ts. Requests are counted in shared memory, acknowledged after each
// return of run(): as the machine's workers do it.
import { parentPort, workerData } from 'node:worker_threads';
import { native, Vcpu } from 'apiary/kvm';

const REQUESTED = 0;
const ACKNOWLEDGED = 1;
const RETURNS = 2;
const { vcpuFd, mmapSize, shared } = workerData;
const words = new Int32Array(shared);
const run = Vcpu.fromFd(vcpuFd, mmapSize).mapRun();

parentPort.postMessage(native.threadId());
for (;;) {
  const requested = Atomics.load(words, REQUESTED);
  if (requested !== Atomics.load(words, ACKNOWLEDGED)) {
    Atomics.store(words, ACKNOWLEDGED, requested);
    Atomics.notify(words, ACKNOWLEDGED);
  }
  if (requested < 0) break;
  run.run();
  Atomics.add(words, RETURNS, 1);
}
parentPort.postMessage('done');
