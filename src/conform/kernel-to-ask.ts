/** The kernel under /dev/kvm, for a telling case of src/apic/telling.ts. */
import type { ApicsToAsk } from '../apic/index.ts';
import { System, type Vcpu } from '../kvm/index.ts';
import { CPUID, makeVm } from './host.ts';

const IA32_APIC_BASE = 0x1b;

/** Runs `body` with a VM of its own, as yet without vCPUs. @throws KvmError when KVM cannot be used */
export function withKernel<T>(body: (apics: ApicsToAsk) => T): T {
  const system = System.open();
  const cpus: Vcpu[] = [];
  try {
    const vm = makeVm(system, 0);
    try {
      return body({
        add: (apicId) => {
          const vcpu = vm.createVcpu(apicId);
          vcpu.setCpuid2(CPUID);
          cpus.push(vcpu);
        },
        setBase: (cpu, low) => cpus[cpu].setMsrs([{ index: IA32_APIC_BASE, value: BigInt(low) }]),
        state: (cpu) => cpus[cpu].getLapic(),
        setState: (cpu, state) => cpus[cpu].setLapic(state),
        signalMsi: (addressLow, data) => vm.signalMsi(addressLow, 0, data),
        pendingNmis: (cpu) => cpus[cpu].getVcpuEvents().nmi.pending,
      });
    } finally {
      for (const cpu of cpus) cpu.close();
      vm.close();
    }
  } finally {
    system.close();
  }
}
