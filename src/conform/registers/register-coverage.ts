/** What layer 2 has to have seen in a minute: every register in both modes, every #GP rule, every kind of ICR write, ... */
import {
  type ApicMode,
  type ApicSystemOptions,
  BASE,
  DELIVERY_NAMES,
  ICR,
  MSR,
  PAGE_BYTES,
  REG,
  REGISTERS,
  type RegisterInfo,
} from '../../apic/index.ts';
import { Coverage } from '../coverage.ts';
import type { ModelObserver } from '../model-judge.ts';
import { deliveryMode } from '../operations.ts';
import { GP, type GuestOperation, type Result } from '../spec.ts';

const SHORTHANDS = ['no shorthand', 'self', 'all', 'all but self'];
const SIZES = [1, 2, 4, 8];
const GP_RULES = [
  'x2APIC MSR outside x2APIC mode',
  'read of a write-only register',
  'read of no register',
  'write of a read-only register',
  'write of no register',
  'bits 63:32',
  'ICR reserved bits',
  'SELF_IPI reserved bits',
  'ESR not zero',
  'APIC base reserved bits',
  'APIC base over the physical address bits',
  'EXTD without enable',
  'x2APIC to xAPIC',
  'disabled to x2APIC',
  'CR8 reserved bits',
] as const;
type GpRule = (typeof GP_RULES)[number];
const TRANSITIONS = ['xapic to x2apic', 'xapic to disabled', 'x2apic to disabled', 'disabled to xapic'];
const EVENTS = ['INIT', 'SIPI', 'NMI', 'interrupt', 'timer interrupt'] as const;

const MODES: readonly (readonly [name: string, mode: 'xapic' | 'x2apic'])[] = [
  ['xAPIC', 'xapic'],
  ['x2APIC', 'x2apic'],
];
const BY_OFFSET = new Map<number, RegisterInfo>(REGISTERS.map((info) => [info.offset, info]));

/** @param options `cmci` decides whether there is a CMCI entry to read */
function registerCoverage({ cmci = false }: ApicSystemOptions): string[] {
  const registers = REGISTERS.filter(({ offset }) => cmci || offset !== REG.LVT_CMCI);
  return [
    ...MODES.flatMap(([name, mode]) => [
      ...registers.filter((info) => info[mode].includes('r')).map((info) => `${name} read ${info.name}`),
      ...registers.filter((info) => info[mode].includes('w')).map((info) => `${name} write ${info.name}`),
      ...DELIVERY_NAMES.map((delivery) => `${name} IPI ${delivery}`),
      ...SHORTHANDS.map((shorthand) => `${name} IPI ${shorthand}`),
      `${name} IPI logical`,
    ]),
    ...SIZES.flatMap((size) => [`MMIO read of ${size}`, `MMIO write of ${size}`]),
    'MMIO unaligned',
    'MMIO while disabled',
    'MMIO in x2APIC mode',
    ...GP_RULES.map((rule) => `#GP ${rule}`),
    ...TRANSITIONS,
    ...EVENTS.map((event) => `taken ${event}`),
  ];
}

export class RegisterObserver implements ModelObserver {
  readonly coverage: Coverage;

  /** @param options the host's */
  constructor(options: ApicSystemOptions) {
    this.coverage = new Coverage(registerCoverage(options));
  }

  guest(operation: GuestOperation, result: Result, before: ApicMode, after: ApicMode): void {
    const { kind, address } = operation;
    if (result.fault === GP) this.#hit(`#GP ${faultRule(operation, before)}`);
    else if (kind === 'mmio-read' || kind === 'mmio-write') this.#mmio(operation, before);
    else if ((kind === 'rdmsr' || kind === 'wrmsr') && before === 'x2apic')
      this.#register('x2APIC', kind, msrOffset(address));
    if (before !== after) this.#hit(`${before} to ${after}`);
    const delivery = deliveryMode(operation);
    const arrives = kind === 'mmio-write' ? before === 'xapic' && operation.size === 4 && address % 16 === 0 : true;
    if (delivery >= 0 && result.fault === 0 && arrives)
      this.#ipi(before === 'x2apic' ? 'x2APIC' : 'xAPIC', delivery, operation.low);
  }

  took(event: (typeof EVENTS)[number]): void {
    this.#hit(`taken ${event}`);
  }

  #mmio({ kind, address, size }: GuestOperation, mode: ApicMode): void {
    if (mode !== 'xapic') {
      this.#hit(mode === 'x2apic' ? 'MMIO in x2APIC mode' : 'MMIO while disabled');
      return;
    }
    this.#hit(`MMIO ${kind === 'mmio-read' ? 'read' : 'write'} of ${size}`);
    if (address % 16 !== 0) this.#hit('MMIO unaligned');
    else if (size === 4) this.#register('xAPIC', kind, address % PAGE_BYTES);
  }

  #register(name: string, kind: GuestOperation['kind'], offset: number): void {
    const info = BY_OFFSET.get(offset);
    if (info === undefined) return;
    const access = kind === 'mmio-read' || kind === 'rdmsr' ? 'read' : 'write';
    if (info[name === 'xAPIC' ? 'xapic' : 'x2apic'].includes(access[0] ?? ''))
      this.#hit(`${name} ${access} ${info.name}`);
  }

  #ipi(name: string, delivery: number, low: number): void {
    this.#hit(`${name} IPI ${DELIVERY_NAMES[delivery]}`);
    this.#hit(`${name} IPI ${SHORTHANDS[(low >>> 18) & 3]}`);
    if ((low & (1 << 11)) !== 0) this.#hit(`${name} IPI logical`);
  }

  #hit(name: string): void {
    this.coverage.hit(name);
  }
}

const msrOffset = (msr: number): number => (msr - MSR.X2APIC_FIRST) << 4;

/** Which rule it is that answered #GP; the order is KVM's. */
function faultRule({ kind, address, low, high }: GuestOperation, mode: ApicMode): GpRule {
  if (kind === 'write-cr8') return 'CR8 reserved bits';
  if (address === MSR.APIC_BASE) {
    if ((low & BASE.RESERVED_LOW) !== 0) return 'APIC base reserved bits';
    if ((low & (BASE.ENABLE | BASE.EXTD)) === BASE.EXTD) return 'EXTD without enable';
    if (high !== 0) return 'APIC base over the physical address bits';
    return mode === 'x2apic' ? 'x2APIC to xAPIC' : 'disabled to x2APIC';
  }
  if (mode !== 'x2apic') return 'x2APIC MSR outside x2APIC mode';
  const info = BY_OFFSET.get(msrOffset(address));
  if (kind === 'rdmsr') return info?.x2apic.includes('w') ? 'read of a write-only register' : 'read of no register';
  if (info?.offset === REG.ICR && (low & ICR.X2APIC_RESERVED) !== 0) return 'ICR reserved bits';
  if (high !== 0) return 'bits 63:32';
  if (info?.offset === REG.SELF_IPI) return 'SELF_IPI reserved bits';
  if (info?.offset === REG.ESR) return 'ESR not zero';
  return info?.x2apic.includes('r') ? 'write of a read-only register' : 'write of no register';
}
