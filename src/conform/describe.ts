/** A case and what is wrong with it, in words: the machine, the list of operations, both outcomes side by side. */
import { msiCommand, msiDestination, msiWideDestination } from '../apic/fields.ts';
import { BASE, DELIVERY_NAMES, FROM_DEVICE, inWords, MSR, PAGE_BYTES, REG } from '../apic/index.ts';
import { msrOffset } from '../apic/registers.ts';
import { hex } from '../hex.ts';
import type { Difference } from './compare.ts';
import { registerName } from './page.ts';
import type { RoutingFault } from './routing-coverage.ts';
import type { ApicSpec, Case, Gates, MsiOperation, Operation, RegisterValue } from './spec.ts';

const MAX_DIFFERENCES = 12;

export function describeCase({ machine, operations }: Case): string[] {
  return [
    `machine: ${describeGates(machine)}`,
    ...machine.apics.map((apic, i) => `  cpu ${i}: ${describeApic(apic)}`),
    'operations:',
    ...operations.map((operation, i) => `  ${i + 1}. ${describeOperation(operation)}`),
  ];
}

export function describeDifferences(differences: readonly Difference[], names: readonly [string, string]): string[] {
  const rows = [
    ['', ...names],
    ...differences.slice(0, MAX_DIFFERENCES).map(({ where, expected, actual }) => [where, expected, actual]),
  ];
  const widths = [0, 1, 2].map((column) => Math.max(...rows.map((row) => (row[column] ?? '').length)));
  return [
    'different:',
    ...rows.map((row) => `  ${row.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join('  ')}`.trimEnd()),
  ];
}

export function describeFault({ message, differences }: RoutingFault): string[] {
  const { source = -1, destination, logical = false } = message;
  const sender = source < 0 ? 'a device' : `cpu ${source}`;
  return [
    `the map and the scan disagree about ${logical ? 'logical' : 'physical'} ${hex(destination)} from ${sender}:`,
    ...differences.map(
      ({ vcpuIndex, only, name }) => `  cpu ${vcpuIndex} only by the ${only}: ${name ?? 'nobody intended this'}`,
    ),
  ];
}

export const describeGates = ({ x2apicFormat, broadcastQuirkDisabled }: Gates): string =>
  `32-bit IDs ${onOff(x2apicFormat)}, broadcast quirk ${onOff(!broadcastQuirkDisabled)}`;

const onOff = (on: boolean): string => (on ? 'on' : 'off');

function describeApic({ apicId, baseLow, baseHigh, registers }: ApicSpec): string {
  const list = registers.map(describeRegister).join(' ');
  return `APIC ID ${hex(apicId)}, ${modeOf(baseLow)} (base ${wide(baseLow, baseHigh)}) ${list}`;
}

function modeOf(low: number): string {
  if ((low & BASE.ENABLE) === 0) return 'disabled';
  return (low & BASE.EXTD) !== 0 ? 'x2APIC' : 'xAPIC';
}

const describeRegister = ([offset, value]: RegisterValue): string => `${registerName(offset)}=${hex(value)}`;

const wide = (low: number, high: number): string => (high === 0 ? hex(low) : `${hex(high)}:${hex(low, 8)}`);

export const describeOperation = (operation: Operation): string =>
  operation.kind === 'msi' ? describeMsi(operation) : `cpu ${operation.cpu}: ${describeCpuOperation(operation)}`;

function describeCpuOperation(operation: Exclude<Operation, MsiOperation>): string {
  switch (operation.kind) {
    case 'base':
      return `host sets IA32_APIC_BASE ${wide(operation.low, operation.high)} (${modeOf(operation.low)})`;
    case 'read-base':
      return 'IA32_APIC_BASE (KVM_GET_MSRS)';
    case 'state':
      return `host sets ${operation.registers.map(describeRegister).join(' ')} (KVM_SET_LAPIC)`;
    case 'settle':
      return 'takes INIT and SIPI (KVM_GET_MP_STATE)';
    case 'events':
      return 'pending NMIs and SMI (KVM_GET_VCPU_EVENTS)';
  }
  const { kind, size, address, low, high, unattended } = operation;
  const value = wide(low, high);
  const later = unattended ? ', still pending at the next' : '';
  switch (kind) {
    case 'mmio-read':
      return `reads ${size} bytes at ${hex(address)} (${mmioName(address)})`;
    case 'mmio-write':
      return `writes ${size} bytes ${value} at ${hex(address)} (${mmioName(address)})${later}`;
    case 'rdmsr':
      return `RDMSR ${hex(address)} (${msrName(address)})`;
    case 'wrmsr':
      return `WRMSR ${hex(address)} (${msrName(address)}) = ${value}${later}`;
    case 'read-cr8':
      return 'reads CR8';
    case 'write-cr8':
      return `CR8 = ${value}`;
    case 'window':
      return size === 1 ? 'interrupts on and off, handlers without EOI' : 'interrupts on and off';
    case 'wait':
      return `waits ${low} TSC ticks`;
    default:
      return kind;
  }
}

function describeMsi({ addressLow, addressHigh, data }: MsiOperation): string {
  const destination = msiWideDestination(addressHigh) + msiDestination(addressLow);
  const message = inWords(FROM_DEVICE, destination, msiCommand(addressLow, data));
  const { logical, deliveryMode, vector, redirectionHint, trigMode } = message;
  const whom = `${logical ? 'logical' : 'physical'} ${hex(destination)}`;
  const how = `${redirectionHint ? ', redirection hint' : ''}${trigMode ? ', level' : ''}`;
  return `MSI ${whom} ${DELIVERY_NAMES[deliveryMode]} vector ${hex(vector)}${how} (address ${hex(addressHigh)}:${hex(addressLow)}, data ${hex(data)})`;
}

const mmioName = (address: number): string => {
  const offset = address % PAGE_BYTES;
  return `${registerName(offset & ~0xf)}${offset % 16 === 0 ? '' : `+${offset % 16}`}`;
};

export function msrName(msr: number): string {
  if (msr === MSR.APIC_BASE) return 'IA32_APIC_BASE';
  if (msr === MSR.TSC_DEADLINE) return 'IA32_TSC_DEADLINE';
  const offset = msrOffset(msr);
  return offset <= REG.SELF_IPI ? `x2APIC ${registerName(offset)}` : 'no x2APIC register';
}
