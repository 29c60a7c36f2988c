/** The host's door to an APIC in the kernel: see page.ts. */
import { MSR } from '../apic/index.ts';
import { KvmError, type Vcpu, VcpuEventValid } from '../kvm/index.ts';
import type { StateDoor } from './page.ts';
import { EINVAL_OUTCOME } from './spec.ts';

/** What a vCPU's descriptor is asked here. */
type State = Pick<Vcpu, 'getMsrs' | 'setMsrs' | 'getLapic' | 'setLapic' | 'getVcpuEvents' | 'setVcpuEvents'>;

const EINVAL = 22;

export const vcpuDoor = (vcpu: State): StateDoor => ({
  setBase: (low, high) => {
    const value = (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
    return answer(() => vcpu.setMsrs([{ index: MSR.APIC_BASE, value }]));
  },
  setState: (page) => answer(() => vcpu.setLapic(page)),
  getState: (page) => void vcpu.getLapic(page),
});

/** IA32_APIC_BASE, as the host reads it. */
export const apicBaseOf = (vcpu: State): bigint => vcpu.getMsrs([MSR.APIC_BASE])[0]?.value ?? 0n;

/** Nothing pending that no register page shows. */
export function dropEvents(vcpu: State): void {
  const events = vcpu.getVcpuEvents();
  vcpu.setVcpuEvents({
    ...events,
    nmi: { ...events.nmi, pending: 0, injected: 0, masked: 0 },
    smi: { smm: 0, pending: 0, smmInsideNmi: 0, latchedInit: 0 },
    flags: VcpuEventValid.NMI_PENDING | VcpuEventValid.SMM,
  });
}

function answer(ioctl: () => void): number {
  try {
    ioctl();
    return 0;
  } catch (error) {
    if (error instanceof KvmError && error.errno === EINVAL) return EINVAL_OUTCOME;
    throw error;
  }
}
