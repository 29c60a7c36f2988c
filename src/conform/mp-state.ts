/** What KVM keeps of a vCPU outside its APIC, as far as INIT and SIPI change it. */
import { MpState } from '../kvm/constants.ts';

/** Upper byte of CS at power-up and after INIT. */
export const RESET_PAGE = 0xf0;

/** KVM_MP_STATE_* of a new vCPU whose host did not choose a boot processor: that is the one with ID 0. */
export const startState = (apicId: number): number => (apicId === 0 ? MpState.RUNNABLE : MpState.UNINITIALIZED);
