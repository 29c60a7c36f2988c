/** The host's door to an APIC in the kernel: see page.ts. */
import { MSR } from '../apic/index.ts';
import { KvmError, type Vcpu, VcpuEventValid } from '../kvm/index.ts';
import type { HostDoor } from './page.ts';
import { EINVAL_OUTCOME } from './spec.ts';

const EINVAL = 22;

/** What a vCPU's descriptor is asked here. */
type Asked =
  | 'getMsrs'
  | 'setMsrs'
  | 'getLapic'
  | 'setLapic'
  | 'getVcpuEvents'
  | 'setVcpuEvents'
  | 'getMpState'
  | 'getSregs';

export class VcpuDoor implements HostDoor {
  readonly #vcpu: Pick<Vcpu, Asked>;

  constructor(vcpu: Pick<Vcpu, Asked>) {
    this.#vcpu = vcpu;
  }

  setBase(low: number, high: number): number {
    const value = (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
    return answer(() => this.#vcpu.setMsrs([{ index: MSR.APIC_BASE, value }]));
  }

  base(): bigint {
    return this.#vcpu.getMsrs([MSR.APIC_BASE])[0].value;
  }

  setState(page: Uint8Array): number {
    return answer(() => this.#vcpu.setLapic(page));
  }

  getState(page: Uint8Array): Uint8Array {
    return this.#vcpu.getLapic(page);
  }

  settle(): number {
    return this.#vcpu.getMpState() | (this.#vcpu.getSregs().cs.selector & 0xff00);
  }

  events(): number {
    const { nmi, smi } = this.#vcpu.getVcpuEvents();
    return nmi.pending | (smi.pending << 8);
  }

  /** Nothing pending that no register page shows. */
  dropEvents(): void {
    const events = this.#vcpu.getVcpuEvents();
    this.#vcpu.setVcpuEvents({
      ...events,
      nmi: { ...events.nmi, pending: 0, injected: 0, masked: 0 },
      smi: { smm: 0, pending: 0, smmInsideNmi: 0, latchedInit: 0 },
      flags: VcpuEventValid.NMI_PENDING | VcpuEventValid.SMM,
    });
  }
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
