/** The kernel under /dev/kvm, for a telling case of src/apic/telling.ts, and which rules it turns out to follow. */
import {
  type ApicsToAsk,
  type Behaviour,
  holds,
  KERNELS,
  modelToAsk,
  type RuleName,
  tellingCase,
  VERSIONED_RULES,
} from '../apic/index.ts';
import { System, type Vcpu } from '../kvm/index.ts';
import { CPUID, makeVm } from './host.ts';

const IA32_APIC_BASE = 0x1b;

/** Runs `body` with a VM of its own, as yet without vCPUs. */
function withKernel<T>(body: (apics: ApicsToAsk) => T): T {
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
      });
    } finally {
      for (const cpu of cpus) cpu.close();
      vm.close();
    }
  } finally {
    system.close();
  }
}

/** What one versioned rule's case says of the kernel. */
export interface KernelAnswer {
  readonly rule: RuleName;
  readonly answer: string;
  /** Null: neither the answer with the rule nor the one without it. */
  readonly follows: boolean | null;
}

/** @throws KvmError when KVM cannot be used; its message says why */
export function askKernel(): KernelAnswer[] {
  return VERSIONED_RULES.map((rule) => {
    const { ask } = tellingCase(rule);
    const answer = withKernel(ask);
    const follows = answer === ask(modelToAsk({}));
    const departs = answer === ask(modelToAsk({ breakRules: [rule] }));
    return { rule, answer, follows: follows ? true : departs ? false : null };
  });
}

/** The kernels of whose model the rules were found, no others and all of them. */
export const kernelsLike = (answers: readonly KernelAnswer[]): Behaviour[] =>
  KERNELS.map((kernel) => `kvm@${kernel}` as const).filter((behaviour) =>
    answers.every(({ rule, follows }) => follows === holds(rule, behaviour)),
  );
