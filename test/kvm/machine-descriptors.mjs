// Creates machines of 1 to 96 CPUs under a low limit of descriptors, and prints what failed and which descriptors of KVM
// were left open. (Node itself loses a few of its own when a worker thread finds none to start with.)
import { readdirSync, readlinkSync } from 'node:fs';
import { Machine } from 'apiary';

const isKvm = (fd) => {
  try {
    return /^\/dev\/kvm|kvm-v/.test(readlinkSync(`/proc/self/fd/${fd}`));
  } catch {
    return false; // the directory's own
  }
};
const descriptors = () => readdirSync('/proc/self/fd').filter(isKvm).length;
const failures = new Set();
let ok = 0;

const KERNEL = { apic: 'kernel' }; // a thread for each vCPU: a few are enough
for (const options of [{}, KERNEL, { cpus: 24 }, { ...KERNEL, cpus: 24 }, { cpus: 96 }]) {
  try {
    const machine = await Machine.create({ memory: '2M', ...options });
    await machine.stop();
    ok++;
  } catch (error) {
    failures.add(`${error.name}: ${error.message}`);
  }
}
process.stdout.write(JSON.stringify({ failures: [...failures], left: descriptors(), ok }));
