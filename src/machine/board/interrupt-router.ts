/**
 * Where the I/O APIC's interrupts go: into our APIC map, or to KVM by KVM_SIGNAL_MSI. Under KVM's own APICs it also keeps
 * KVM's routing table in step, from which KVM knows which EOIs to report (KVM_EXIT_IOAPIC_EOI).
 */
import { type ApicSystem, COMMAND, FROM_DEVICE } from '../../apic/index.ts';
import type { IoApic, IoApicInterrupt } from '../../devices/ioapic.ts';
import type { Vm } from '../../kvm/index.ts';

export interface InterruptRouter {
  /** @returns how many vCPUs took it (0: coalesced), or -1 if nobody matched. */
  deliver(interrupt: Readonly<IoApicInterrupt>): number;
  /** The guest rewrote redirection entries. */
  entriesChanged(ioapic: IoApic): void;
}

const commandOf = ({ logical, deliveryMode, vector, levelTriggered }: Readonly<IoApicInterrupt>): number =>
  vector |
  (deliveryMode << 8) |
  (logical ? COMMAND.LOGICAL : 0) |
  (levelTriggered ? COMMAND.LEVEL : 0) |
  COMMAND.ASSERT;

export function userRouter(system: ApicSystem): InterruptRouter {
  return {
    deliver: (interrupt) => system.send(FROM_DEVICE, interrupt.destination, commandOf(interrupt)),
    entriesChanged: () => {},
  };
}

const MSI_ADDRESS = 0xfee0_0000;
const MSI_LOGICAL = 1 << 2;
const MSI_LEVEL_ASSERTED = (1 << 15) | (1 << 14);

/** An interrupt as the MSI that KVM takes: destination bits 31:8 in the upper address word (Documentation/virt/kvm/api.rst). */
function msiOf(interrupt: Readonly<IoApicInterrupt>): { addressLow: number; addressHigh: number; data: number } {
  const { destination, logical, deliveryMode, vector, levelTriggered } = interrupt;
  return {
    addressLow: (MSI_ADDRESS | ((destination & 0xff) << 12) | (logical ? MSI_LOGICAL : 0)) >>> 0,
    addressHigh: (destination & 0xffff_ff00) >>> 0,
    data: vector | (deliveryMode << 8) | (levelTriggered ? MSI_LEVEL_ASSERTED : 0),
  };
}

export function kernelRouter(vm: Vm): InterruptRouter {
  return {
    deliver: (interrupt) => {
      const { addressLow, addressHigh, data } = msiOf(interrupt);
      return Math.max(-1, vm.signalMsi(addressLow, addressHigh, data));
    },
    entriesChanged: (ioapic) => {
      // A masked level entry stays: its last interrupt may still wait for the EOI that clears remote IRR.
      const entries = ioapic.entries().filter((entry) => !entry.masked || entry.levelTriggered);
      vm.setGsiRouting(entries.map((entry) => ({ gsi: entry.pin, ...msiOf(entry) })));
    },
  };
}
