/**
 * What this host's KVM is like, asked of it with a VM of one vCPU rather than assumed: the options that a model needs to
 * be its mirror.
 */
import { type ApicSystemOptions, type ApicsToAsk, MSR, REG } from '../apic/index.ts';
import { Cap, type CpuidEntry, kvmParameter, System, type Vcpu, type Vm, X2apicFlag } from '../kvm/index.ts';
import { changeState } from './host-machine.ts';
import { readRegister } from './page.ts';
import type { Gates } from './spec.ts';
import { VcpuDoor } from './vcpu-door.ts';

/** The CPU that conformance machines have: nothing but what the APIC looks at. */
const CPUID: readonly CpuidEntry[] = [
  leaf(0, { eax: 1, ebx: 0x756e6547, ecx: 0x6c65746e, edx: 0x49656e69 }), // GenuineIntel
  leaf(1, { eax: 0x600, ecx: (1 << 21) | (1 << 24), edx: 1 << 9 }), // x2APIC, TSC deadline; APIC
  leaf(0x80000000, { eax: 0x80000008 }),
  leaf(0x80000001, { edx: 1 << 29 }), // long mode, for the guest of layer 2
  leaf(0x80000008, { eax: 48 }), // physical address bits
];

function leaf(fn: number, values: Partial<CpuidEntry>): CpuidEntry {
  return { function: fn, index: 0, flags: 0, eax: 0, ebx: 0, ecx: 0, edx: 0, ...values };
}

const SPLIT_IRQCHIP_PINS = 24;

/** A VM as the kernel judges use them: split irqchip, so that the local APICs are KVM's and nothing else is. */
export function makeVm(system: System, x2apicApi: number): Vm {
  const vm = system.createVm();
  vm.enableCap(Cap.SPLIT_IRQCHIP, SPLIT_IRQCHIP_PINS);
  if (x2apicApi !== 0) vm.enableCap(Cap.X2APIC_API, x2apicApi);
  return vm;
}

/** KVM_CAP_X2APIC_API's argument. */
export const x2apicFlags = ({ x2apicFormat, broadcastQuirkDisabled }: Gates): number =>
  (x2apicFormat ? X2apicFlag.API_USE_32BIT_IDS : 0) |
  (broadcastQuirkDisabled ? X2apicFlag.API_DISABLE_BROADCAST_QUIRK : 0);

const X2APIC_BASE = 0xfee00c00;
const SMI_TO_0 = 0x0200;
const ISR4_VECTOR_0X80 = 1;

/** A vCPU of such a VM. */
export function makeVcpu(vm: Vm, apicId: number): Vcpu {
  const vcpu = vm.createVcpu(apicId);
  vcpu.setCpuid2(CPUID);
  return vcpu;
}

/** Runs `body` with such a VM of its own. @throws KvmError when KVM cannot be used; its message says why */
export function withVm<T>(body: (vm: Vm, system: System) => T): T {
  const system = System.open();
  try {
    const vm = makeVm(system, 0);
    try {
      return body(vm, system);
    } finally {
      vm.close();
    }
  } finally {
    system.close();
  }
}

/** The same, for a telling case of src/apic/telling.ts. As yet without vCPUs. */
export const withKernel = <T>(body: (apics: ApicsToAsk) => T): T =>
  withVm((vm) => {
    const cpus: Vcpu[] = [];
    try {
      return body({
        add: (apicId) => void cpus.push(makeVcpu(vm, apicId)),
        setBase: (cpu, low) => cpus[cpu].setMsrs([{ index: MSR.APIC_BASE, value: BigInt(low) }]),
        state: (cpu) => cpus[cpu].getLapic(),
        setState: (cpu, state) => cpus[cpu].setLapic(state),
        signalMsi: (addressLow, data) => vm.signalMsi(addressLow, 0, data),
        pendingNmis: (cpu) => cpus[cpu].getVcpuEvents().nmi.pending,
      });
    } finally {
      for (const cpu of cpus) cpu.close();
    }
  });

/** KVM_CAP_MAX_VCPU_ID: APIC IDs are below it. @throws KvmError when KVM cannot be used */
export const askMaxVcpuId = (): number => withVm((_, system) => system.checkExtension(Cap.MAX_VCPU_ID));

/** @throws KvmError when KVM cannot be used; its message says why */
export function probeHost(): ApicSystemOptions {
  return withVm((vm) => {
    const cpu = makeVcpu(vm, 0);
    const door = new VcpuDoor(cpu);
    const read = (register: number): number => readRegister(door.getState(), register);
    const cmci = ((read(REG.VERSION) >>> 16) & 0xff) === 6;
    // With APICv KVM has no ISR cache, so PPR follows the ISR of a restored state at once.
    changeState(door, [[REG.ISR + 0x40, ISR4_VECTOR_0X80]]);
    const apicv = read(REG.PPR) !== 0;
    // ICR in x2APIC mode: one 64-bit register, or two halves.
    door.setApicBaseFromHost(X2APIC_BASE, 0);
    changeState(door, [
      [REG.ICR + 4, 0],
      [REG.ICR2, 0x55],
    ]);
    const x2apicIcrSplit = read(REG.ICR + 4) === 0;
    const smm = vm.signalMsi(0xfee00000, 0, SMI_TO_0) === 1;
    cpu.close();
    return {
      cmci,
      x2apicIcrSplit,
      smm,
      apicv,
      vectorHashing: kvmParameter('vector_hashing') !== 'N',
      minTimerPeriodMicros: Number(kvmParameter('min_timer_period_us') ?? 200),
      ioapicInKernel: false,
      physicalAddressBits: 48,
    };
  });
}
