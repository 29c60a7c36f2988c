/**
 * An MSI as a message between APICs (kvm_set_msi, kvm_set_msi_irq in arch/x86/kvm/irq.c; SDM vol. 3A, 12.11). The base
 * address bits (0xfee) are not looked at, as in KVM: whoever has the address has decided already.
 */
import {
  msiDeliveryMode,
  msiDestination,
  msiLevel,
  msiLogical,
  msiRedirectionHint,
  msiVector,
  msiWideDestination,
  msiWideReserved,
  SHORTHAND,
} from './fields.ts';
import type { ApicMemory } from './layout.ts';
import { FROM_DEVICE, type Router } from './router.ts';

const EINVAL = 22;

/** KVM_SIGNAL_MSI's answer: see ApicSystem.signalMsi. */
export function signalMsi(
  memory: ApicMemory,
  router: Router,
  addressLow: number,
  addressHigh: number,
  data: number,
): number {
  const { rules } = memory;
  const wide = memory.options.x2apicFormat;
  if (wide && rules.msiReservedHigh && msiWideReserved(addressHigh)) return -EINVAL;
  const upper = wide && rules.msiWideDestination ? msiWideDestination(addressHigh) : 0;
  return router.route(
    FROM_DEVICE,
    upper + msiDestination(addressLow),
    msiLogical(addressLow),
    msiDeliveryMode(data),
    msiVector(data),
    true,
    msiLevel(data),
    SHORTHAND.NONE,
    msiRedirectionHint(addressLow) && rules.redirectionHint,
  );
}
