/**
 * Where the devices' interrupt messages go: into our APIC map, or to KVM by KVM_SIGNAL_MSI. Under KVM's own APICs it also
 * keeps KVM's routing table in step, from which KVM knows which EOIs to report (KVM_EXIT_IOAPIC_EOI).
 */
import { type ApicSystem, COMMAND, FROM_DEVICE } from '../../apic/index.ts';
import type { IoApic } from '../../devices/ioapic.ts';
import type { Vm } from '../../kvm/index.ts';
import { LOCAL_APIC_BASE } from '../../platform.ts';

export interface InterruptRouter {
  /** As `Board.msi`. */
  deliver(destination: number, command: number): number;
  /** The guest rewrote redirection entries. */
  entriesChanged(ioapic: IoApic): void;
}

export function userRouter(system: ApicSystem): InterruptRouter {
  return {
    deliver: (destination, command) => system.send(FROM_DEVICE, destination, command),
    entriesChanged: () => {},
  };
}

const MSI_LOGICAL = 1 << 2;
/** Vector and delivery mode. */
const MSI_DATA = 0x7ff;

/** A message as the MSI that KVM takes: destination bits 31:8 in the upper address word (Documentation/virt/kvm/api.rst). */
function msiOf(destination: number, command: number): { addressLow: number; addressHigh: number; data: number } {
  return {
    addressLow: (LOCAL_APIC_BASE | ((destination & 0xff) << 12) | (command & COMMAND.LOGICAL ? MSI_LOGICAL : 0)) >>> 0,
    addressHigh: (destination & 0xffff_ff00) >>> 0,
    data: (command & MSI_DATA) | (command & COMMAND.LEVEL ? COMMAND.LEVEL | COMMAND.ASSERT : 0),
  };
}

export function kernelRouter(vm: Vm): InterruptRouter {
  return {
    deliver: (destination, command) => {
      const { addressLow, addressHigh, data } = msiOf(destination, command);
      return Math.max(-1, vm.signalMsi(addressLow, addressHigh, data));
    },
    entriesChanged: (ioapic) => {
      // A masked level entry stays: its last interrupt may still wait for the EOI that clears remote IRR.
      const entries = ioapic.entries().filter((entry) => !entry.masked || entry.levelTriggered);
      vm.setGsiRouting(entries.map(({ pin, destination, command }) => ({ gsi: pin, ...msiOf(destination, command) })));
    },
  };
}
