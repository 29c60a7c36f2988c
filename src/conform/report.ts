/** A failure in words: the machine, the shortest list of operations, both outcomes side by side. */
import { BASE, DELIVERY_NAMES } from '../apic/index.ts';
import type { Mismatch } from './compare.ts';
import { registerName } from './page.ts';
import type { RoutingFault } from './routing-coverage.ts';
import { type ApicSpec, type Case, hex, type Operation, type RegisterValue } from './spec.ts';

export function describeCase({ machine, operations }: Case): string[] {
  return [
    `machine: 32-bit IDs ${onOff(machine.x2apicFormat)}, broadcast quirk ${onOff(!machine.broadcastQuirkDisabled)}`,
    ...machine.apics.map((apic, i) => `  cpu ${i}: ${describeApic(apic)}`),
    'operations:',
    ...operations.map((operation, i) => `  ${i + 1}. ${describeOperation(operation)}`),
  ];
}

export function describeMismatch(
  { step, operation, judges, outcomes, registers }: Mismatch,
  operations: number,
): string[] {
  const when =
    step < 0 ? 'in the state at the start' : step < operations ? `after operation ${step + 1}` : 'at the end, after';
  const extra = step >= operations && operation !== undefined ? ` ${describeOperation(operation)}` : '';
  const rows: [string, string, string][] = [['', judges[0], judges[1]]];
  if (outcomes !== undefined) rows.push(['answer', String(outcomes[0]), String(outcomes[1])]);
  for (const { cpu, register, expected, actual } of registers) {
    rows.push([`cpu ${cpu} ${register}`, hex(expected, 8), hex(actual, 8)]);
  }
  const widths = [0, 1, 2].map((column) => Math.max(...rows.map((row) => (row[column] ?? '').length)));
  const table = rows.map((row) => `  ${row.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join('  ')}`.trimEnd());
  return [`different ${when}${extra}:`, ...table];
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

const onOff = (on: boolean): string => (on ? 'on' : 'off');

export function describeApic({ apicId, baseLow, baseHigh, registers }: ApicSpec): string {
  const base = baseHigh === 0 ? '' : `${hex(baseHigh)}:`;
  const list = registers.map(describeRegister).join(' ');
  return `APIC ID ${hex(apicId)}, ${modeOf(baseLow)} (base ${base}${hex(baseLow)}) ${list}`;
}

function modeOf(low: number): string {
  if ((low & BASE.ENABLE) === 0) return 'disabled';
  return (low & BASE.EXTD) !== 0 ? 'x2APIC' : 'xAPIC';
}

const describeRegister = ([offset, value]: RegisterValue): string => `${registerName(offset)}=${hex(value)}`;

export function describeOperation(operation: Operation): string {
  switch (operation.kind) {
    case 'msi':
      return describeMsi(operation);
    case 'base':
      return `cpu ${operation.cpu}: host sets IA32_APIC_BASE ${operation.high === 0 ? '' : `${hex(operation.high)}:`}${hex(operation.low)} (${modeOf(operation.low)})`;
    case 'read-base':
      return `cpu ${operation.cpu}: IA32_APIC_BASE (KVM_GET_MSRS)`;
    case 'state':
      return `cpu ${operation.cpu}: host sets ${operation.registers.map(describeRegister).join(' ')} (KVM_SET_LAPIC)`;
    case 'settle':
      return `cpu ${operation.cpu}: takes INIT and SIPI (KVM_GET_MP_STATE)`;
    case 'events':
      return `cpu ${operation.cpu}: pending NMIs and SMI (KVM_GET_VCPU_EVENTS)`;
  }
}

function describeMsi({ addressLow, addressHigh, data }: Operation & { kind: 'msi' }): string {
  const logical = (addressLow & 4) !== 0 ? 'logical' : 'physical';
  const destination = ((addressHigh & 0xffffff00) | ((addressLow >>> 12) & 0xff)) >>> 0;
  const hint = (addressLow & 8) !== 0 ? ', redirection hint' : '';
  const level = (data & 0x8000) !== 0 ? ', level' : '';
  const mode = DELIVERY_NAMES[(data >>> 8) & 7];
  return `MSI ${logical} ${hex(destination)} ${mode} vector ${hex(data & 0xff)}${hint}${level} (address ${hex(addressHigh)}:${hex(addressLow)}, data ${hex(data)})`;
}
