// Ends the process in the way given while a worker is inside KVM_RUN, for bindings-kick.test.ts.
import { Worker } from 'node:worker_threads';
import { bytesToPage, native, System } from 'apiary/kvm';

const system = System.open();
const vm = system.createVm();
const buffer = new SharedArrayBuffer(3 * 4096);
globalThis.guestMemory = buffer; // KVM knows only its address: it must not be collected
const padding = bytesToPage(buffer);
new Uint8Array(buffer, padding).set([0xeb, 0xfe]); // jmp .
vm.setUserMemoryRegion(0, 0, new Uint8Array(buffer, padding, 4096));
const vcpu = vm.createVcpu(0);
const sregs = vcpu.getSregs();
vcpu.setSregs({ ...sregs, cs: { ...sregs.cs, base: 0n, selector: 0 } });
vcpu.setRegs({ rflags: 2n });

const workerData = { vcpuFd: vcpu.fd, mmapSize: vm.vcpuMmapSize, shared: new SharedArrayBuffer(16) };
const worker = new Worker(new URL('./bindings-worker.mjs', import.meta.url), { workerData });
worker.once('message', () => {
  setTimeout(() => {
    if (process.argv[2] === 'exit') process.exit(3);
    if (process.argv[2] === 'throw') throw new Error('on purpose');
    worker.unref();
  }, 20);
});
