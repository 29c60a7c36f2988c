/** A case of layer 2 and what is wrong with it, in words. */
import { MSR, PAGE_BYTES, REG } from '../../apic/index.ts';
import { registerName } from '../page.ts';
import { describeApic } from '../report.ts';
import { hex } from '../spec.ts';
import type { Difference } from './compare.ts';
import type { RegisterCase, RegisterOperation } from './operations.ts';

export function describeRegisterCase({ machine, operations }: RegisterCase): string[] {
  const onOff = (on: boolean): string => (on ? 'on' : 'off');
  return [
    `machine: 32-bit IDs ${onOff(machine.x2apicFormat)}, broadcast quirk ${onOff(!machine.broadcastQuirkDisabled)}`,
    ...machine.apics.map((apic, i) => `  cpu ${i}: ${describeApic(apic)}`),
    'operations:',
    ...operations.map((operation, i) => `  ${i + 1}. cpu ${operation.cpu}: ${describeRegisterOperation(operation)}`),
  ];
}

export function describeRegisterOperation(operation: RegisterOperation): string {
  const { kind, size, address, low, high, unattended } = operation;
  const value = high === 0 ? hex(low) : `${hex(high)}:${hex(low, 8)}`;
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

export function describeDifferences(differences: readonly Difference[], names: readonly [string, string]): string[] {
  const rows = [
    ['', ...names],
    ...differences.slice(0, 12).map(({ where, expected, actual }) => [where, expected, actual]),
  ];
  const widths = [0, 1, 2].map((column) => Math.max(...rows.map((row) => (row[column] ?? '').length)));
  return [
    'different:',
    ...rows.map((row) => `  ${row.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join('  ')}`.trimEnd()),
  ];
}

const mmioName = (address: number): string => {
  const offset = address % PAGE_BYTES;
  return `${registerName(offset & ~0xf)}${offset % 16 === 0 ? '' : `+${offset % 16}`}`;
};

export function msrName(msr: number): string {
  if (msr === MSR.APIC_BASE) return 'IA32_APIC_BASE';
  if (msr === MSR.TSC_DEADLINE) return 'IA32_TSC_DEADLINE';
  const offset = (msr - MSR.X2APIC_FIRST) << 4;
  return offset <= REG.SELF_IPI ? `x2APIC ${registerName(offset)}` : 'no x2APIC register';
}
