/**
 * What a vCPU's thread does when KVM_RUN returns: one case for each exit reason, on the thread that took it. Nothing here
 * allocates on the common paths (port I/O, MMIO, MSR, HLT).
 */
import { ExitReason, SystemEvent } from '../../kvm/constants.ts';
import type { DevicePort } from '../shared/mailbox.ts';
import type { EndReason } from '../shared/messages.ts';
import { Status } from '../status.ts';
import type { ApicDoors } from './apic-doors.ts';
import type { Cpu } from './cpu.ts';
import { describeFailure } from './failure.ts';
import { deliverSoftwareInterrupt } from './software-interrupts.ts';
import type { VcpuRun } from './vcpu-backend.ts';

/** Ends the machine; the run loop stops by itself. */
export type EndMachine = (reason: EndReason, status: number, detail?: string) => void;

/** The guest or KVM failed rather than ended by itself. */
export const FAILURE_STATUS = Status.vcpuFailed;

export function handleExit(cpu: Cpu, devices: DevicePort, end: EndMachine): void {
  const { run, apic } = cpu;
  switch (run.exitReason) {
    case ExitReason.IO:
      portAccess(run, devices);
      return;
    case ExitReason.MMIO:
      memoryAccess(cpu, devices);
      return;
    case ExitReason.X86_RDMSR:
      readMsr(run, apic);
      return;
    case ExitReason.X86_WRMSR:
      run.msrError = apic === null || !apic.writeMsr(run.msrIndex, run.msrDataLow, run.msrDataHigh);
      return;
    case ExitReason.HLT:
      cpu.interrupts.halt();
      return;
    case ExitReason.IRQ_WINDOW_OPEN:
    case ExitReason.SET_TPR:
    case ExitReason.INTR:
      return;
    case ExitReason.IOAPIC_EOI:
      devices.endOfInterrupt(run.eoiVector);
      return;
    case ExitReason.SHUTDOWN:
      end('triple-fault', FAILURE_STATUS, describeFailure(cpu, 'triple fault'));
      return;
    case ExitReason.SYSTEM_EVENT:
      if (run.systemEventType === SystemEvent.RESET) end('reset', 0);
      else end('shutdown', 0);
      return;
    default:
      if (deliverSoftwareInterrupt(cpu)) return;
      end('internal-error', FAILURE_STATUS, describeFailure(cpu, 'KVM cannot go on'));
  }
}

/** With KVM's own APIC no MSR of ours is asked for: #GP. */
function readMsr(run: VcpuRun, apic: ApicDoors | null): void {
  if (apic === null) {
    run.msrError = true;
    return;
  }
  run.msrError = !apic.readMsr(run.msrIndex);
  run.msrDataLow = apic.msrLow;
  run.msrDataHigh = apic.msrHigh;
}

function portAccess(run: VcpuRun, devices: DevicePort): void {
  const { ioSize: size, ioPort: port, ioCount: count } = run;
  for (let index = 0; index < count; index++) {
    if (run.ioIsOut) devices.write('pio', port, size, run.ioValue(index));
    else run.setIoValue(index, devices.read('pio', port, size));
  }
}

/** The APIC page is the CPU's own; all else goes to the devices. */
function memoryAccess(cpu: Cpu, devices: DevicePort): void {
  const { run, apic } = cpu;
  const address = run.mmioAddress;
  const length = run.mmioLength;
  const offset = apic === null ? -1 : apic.mmioOffset(address);
  if (apic !== null && offset >= 0) {
    if (run.mmioIsWrite) {
      apic.writeMmio(offset, length, run.mmioValue());
    } else {
      run.setMmioValue(apic.readMmio(offset, length), apic.mmioHigh);
    }
  } else if (length === 4 || length === 2 || length === 1) {
    if (run.mmioIsWrite) devices.write('mmio', address, length, run.mmioValue());
    else run.setMmioValue(devices.read('mmio', address, length));
  } else {
    memoryAccessInPieces(run, devices, address, length);
  }
}

/** 8 bytes, or the odd lengths of an access across a page's end: 4, 2 and 1 bytes at a time, low address first. */
function memoryAccessInPieces(run: VcpuRun, devices: DevicePort, address: number, length: number): void {
  for (let done = 0; done < length; ) {
    const left = length - done;
    const size = left >= 4 ? 4 : left >= 2 ? 2 : 1;
    if (run.mmioIsWrite) {
      let value = 0;
      for (let byte = 0; byte < size; byte++) value |= run.mmioByte(done + byte) << (8 * byte);
      devices.write('mmio', address + done, size, value >>> 0);
    } else {
      const value = devices.read('mmio', address + done, size);
      for (let byte = 0; byte < size; byte++) run.setMmioByte(done + byte, (value >>> (8 * byte)) & 0xff);
    }
    done += size;
  }
}
