// For bindings-kick.test.ts: signals that land around the entry to KVM_RUN, where a kick could get lost between the look
// at the flag and the ioctl. A lost one hangs this process.
import { bytesToPage, native, System } from 'apiary/kvm';

const ROUNDS = 20_000;
const SPREAD_NANOS = 6000; // arming, the call and the entry take about 3 us
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
const run = vcpu.mapRun();

for (let round = 0; round < ROUNDS; round++) {
  native.armTimer(native.nowNanos() + Math.random() * SPREAD_NANOS);
  if (run.run() !== -4) process.exit(1);
}
