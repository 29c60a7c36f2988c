/** What the APICs of a whole machine depend on besides what probeHost (../host.ts) asks: asked of the host, not assumed. */
import { type ApicSystemOptions, ICR, REG } from '../../apic/index.ts';
import { withVm } from '../host.ts';
import { readRegister } from '../page.ts';
import type { RigSpec } from '../rigs.ts';
import type { GuestOperation, RegisterValue } from '../spec.ts';
import { KernelRig } from './kernel-rig.ts';

/** @throws KvmError when the host has no KVM that can be used */
export async function probeMachine(): Promise<ApicSystemOptions> {
  return { ...askHost(), ...(await askGuest()) };
}

const ADDRESS_SIZES = 0x80000008;
const IA32_TSC = 0x10;

/** Upper half of the TSC that a new vCPU has: near 0, or the host's own where KVM cannot offset it. */
export const askTscHigh = (): number =>
  withVm((vm) => {
    const vcpu = vm.createVcpu(0);
    try {
      return Number((vcpu.getMsrs([IA32_TSC])[0]?.value ?? 0n) >> 32n);
    } finally {
      vcpu.close();
    }
  });

const askHost = (): ApicSystemOptions =>
  withVm((vm, system) => {
    const sizes = system.getSupportedCpuid().find((entry) => entry.function === ADDRESS_SIZES);
    return { tscKhz: vm.getTscKhz(), physicalAddressBits: (sizes?.eax ?? 48) & 0xff };
  });

/** What only a guest can find out of the kernel's APICs: whether an interrupt that was taken is in ISR until its EOI. */
async function askGuest(): Promise<ApicSystemOptions> {
  const page = await pageAfter(
    [],
    [
      { kind: 'mmio-write', address: 0xfee00000 + REG.ICR, low: ICR.SELF | 0x45 },
      { kind: 'window', size: 1 },
    ],
  );
  return { autoEoi: page.subarray(REG.ISR, REG.TMR).every((byte) => byte === 0) };
}

/** Whether TPR's bits 3:0 outlive a run of the guest: see `ListHost.lowTpr`. */
export async function askLowTpr(): Promise<boolean> {
  const page = await pageAfter([[REG.TPR, TPR_WITH_LOW_BITS]], [{ kind: 'window' }]);
  return readRegister(page, REG.TPR) === TPR_WITH_LOW_BITS;
}

const TPR_WITH_LOW_BITS = 0x1c;

/** The register page of a lone CPU's in-kernel APIC once a guest has carried out the operations. */
async function pageAfter(
  registers: readonly RegisterValue[],
  operations: readonly (Pick<GuestOperation, 'kind'> & Partial<GuestOperation>)[],
): Promise<Uint8Array> {
  const rig: RigSpec = { x2apicFormat: false, broadcastQuirkDisabled: false, rig: [0] };
  const kernel = await KernelRig.create(rig);
  try {
    const apic = { apicId: 0, baseLow: 0xfee00900, baseHigh: 0, registers: [[REG.SPIV, 0x1ff] as const, ...registers] };
    const { cpus } = kernel.carryOut({
      machine: { ...rig, bootstrap: 0, apics: [apic] },
      operations: operations.map((each) => ({ cpu: 0, size: 4, address: 0, low: 0, high: 0, ...each })),
    });
    return Uint8Array.from(cpus[0]?.page ?? []);
  } finally {
    kernel.close();
  }
}
