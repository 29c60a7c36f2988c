/** The host's door to an APIC in the kernel: see host-machine.ts. */
import { MSR } from '../apic/index.ts';
import { KvmError, type Vcpu, VcpuEventValid } from '../kvm/index.ts';
import type { StateDoor } from './host-machine.ts';

const EINVAL = 22;

export class VcpuDoor implements StateDoor {
  readonly #vcpu: Pick<Vcpu, 'getMsrs' | 'setMsrs' | 'getLapic' | 'setLapic'>;

  constructor(vcpu: Pick<Vcpu, 'getMsrs' | 'setMsrs' | 'getLapic' | 'setLapic'>) {
    this.#vcpu = vcpu;
  }

  setApicBaseFromHost(low: number, high: number): boolean {
    const value = (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
    return isTaken(() => this.#vcpu.setMsrs([{ index: MSR.APIC_BASE, value }]));
  }

  apicBase(): bigint {
    return this.#vcpu.getMsrs([MSR.APIC_BASE])[0].value;
  }

  setState(page: Uint8Array): boolean {
    return isTaken(() => this.#vcpu.setLapic(page));
  }

  getState(page?: Uint8Array): Uint8Array {
    return this.#vcpu.getLapic(page);
  }
}

/** Nothing pending that no register page shows. */
export function dropEvents(vcpu: Pick<Vcpu, 'getVcpuEvents' | 'setVcpuEvents'>): void {
  const events = vcpu.getVcpuEvents();
  vcpu.setVcpuEvents({
    ...events,
    nmi: { ...events.nmi, pending: 0, injected: 0, masked: 0 },
    smi: { smm: 0, pending: 0, smmInsideNmi: 0, latchedInit: 0 },
    flags: VcpuEventValid.NMI_PENDING | VcpuEventValid.SMM,
  });
}

function isTaken(ioctl: () => void): boolean {
  try {
    ioctl();
    return true;
  } catch (error) {
    if (error instanceof KvmError && error.errno === EINVAL) return false;
    throw error;
  }
}
