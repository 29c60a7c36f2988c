/** What the APICs of a whole machine depend on besides what probeHost (../host.ts) asks: asked of the host, not assumed. */
import { type ApicSystemOptions, BASE, ICR, MODE, REG } from '../../apic/index.ts';
import { IA32_TSC } from '../../machine/loop/cpu-state.ts';
import { LOCAL_APIC_BASE } from '../../platform.ts';
import { askMaxVcpuId, withVm } from '../host.ts';
import { makeApic, readRegister } from '../page.ts';
import { KernelRig } from './kernel-rig.ts';

export interface MachineProbe {
  /** For a model: tscKhz, physicalAddressBits, autoEoi. */
  readonly options: ApicSystemOptions;
  /** Whether TPR's bits 3:0 outlive a run of the guest: see `ListHost.lowTpr`. */
  readonly lowTpr: boolean;
  /** KVM_CAP_MAX_VCPU_ID. */
  readonly maxVcpuId: number;
}

const ADDRESS_SIZES = 0x80000008;
const TPR_WITH_LOW_BITS = 0x1c;

/** @throws KvmError when the host has no KVM that can be used */
export async function probeMachine(): Promise<MachineProbe> {
  const { autoEoi, lowTpr } = await askGuest();
  return { options: { ...askHost(), autoEoi }, lowTpr, maxVcpuId: askMaxVcpuId() };
}

/** Upper half of the TSC that a new vCPU has: near 0, or the host's own where KVM cannot offset it. */
export const askTscHigh = (): number =>
  withVm((vm) => {
    const vcpu = vm.createVcpu(0);
    try {
      return Number(vcpu.getMsrs([IA32_TSC])[0].value >> 32n);
    } finally {
      vcpu.close();
    }
  });

const askHost = (): ApicSystemOptions =>
  withVm((vm, system) => {
    const sizes = system.getSupportedCpuid().find((entry) => entry.function === ADDRESS_SIZES);
    return { tscKhz: system.tscKhz(vm), physicalAddressBits: (sizes?.eax ?? 48) & 0xff };
  });

/** What only a guest can find out of the kernel's APICs: whether an interrupt that was taken is in ISR until its EOI, and TPR. */
async function askGuest(): Promise<{ autoEoi: boolean; lowTpr: boolean }> {
  const rig = { x2apicFormat: false, broadcastQuirkDisabled: false, rig: [0] };
  const kernel = await KernelRig.create(rig);
  try {
    const apic = makeApic({ apicId: 0, mode: MODE.XAPIC, bsp: BASE.BSP, more: [[REG.TPR, TPR_WITH_LOW_BITS]] });
    const each = { cpu: 0, size: 4, address: 0, low: 0, high: 0 };
    const { cpus } = kernel.carryOut({
      machine: { ...rig, bootstrap: 0, apics: [apic] },
      operations: [
        { ...each, kind: 'mmio-write', address: LOCAL_APIC_BASE + REG.ICR, low: ICR.SELF | 0x45 },
        { ...each, kind: 'window', size: 1 },
      ],
    });
    const [{ page }] = cpus;
    const autoEoi = page.subarray(REG.ISR, REG.TMR).every((byte) => byte === 0);
    return { autoEoi, lowTpr: readRegister(page, REG.TPR) === TPR_WITH_LOW_BITS };
  } finally {
    kernel.close();
  }
}
