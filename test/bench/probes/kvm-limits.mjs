// kvm-limits.mjs: how many vCPUs this KVM takes in one VM (KVM_CAP_MAX_VCPUS). Prints {"maxVcpus"}.
import { Cap, System } from 'apiary/kvm';

const system = System.open();
process.stdout.write(JSON.stringify({ maxVcpus: system.checkExtension(Cap.MAX_VCPUS) }));
system.close();
