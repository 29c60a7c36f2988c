/** What layer 2 has to have seen in a minute: every register in both modes, every #GP rule, every kind of ICR write, ... */
import {
  type ApicMode,
  type ApicSystemOptions,
  BASE,
  DELIVERY_NAMES,
  ICR,
  MODE,
  MSR,
  PAGE_BYTES,
  REG,
  REGISTERS,
  type RegisterInfo,
} from '../../apic/index.ts';
import { msrOffset } from '../../apic/registers.ts';
import { Coverage } from '../coverage.ts';
import type { ModelObserver } from '../model-judge.ts';
import { deliveryMode } from '../operations.ts';
import { GP, type GuestOperation, type Result } from '../spec.ts';

const SHORTHANDS = ['no shorthand', 'self', 'all', 'all but self'];
const SIZES = [1, 2, 4, 8];

/** An access that was answered with #GP. */
interface Refused extends GuestOperation {
  /** Before it. */
  readonly mode: ApicMode;
  readonly info: RegisterInfo | undefined;
}

const toBase = ({ address }: Refused): boolean => address === MSR.APIC_BASE;
/** Which rule it is that answered: the first that applies. The order is KVM's. */
const GP_RULES: readonly (readonly [rule: string, applies: (refused: Refused) => boolean])[] = [
  ['CR8 reserved bits', ({ kind }) => kind === 'write-cr8'],
  ['APIC base reserved bits', (refused) => toBase(refused) && (refused.low & BASE.RESERVED_LOW) !== 0],
  ['EXTD without enable', (refused) => toBase(refused) && (refused.low & MODE.X2APIC) === MODE.INVALID],
  ['APIC base over the physical address bits', (refused) => toBase(refused) && refused.high !== 0],
  ['x2APIC to xAPIC', (refused) => toBase(refused) && refused.mode === 'x2apic'],
  ['disabled to x2APIC', toBase],
  ['x2APIC MSR outside x2APIC mode', ({ mode }) => mode !== 'x2apic'],
  ['read of a write-only register', ({ kind, info }) => kind === 'rdmsr' && info?.x2apic.includes('w') === true],
  ['read of no register', ({ kind }) => kind === 'rdmsr'],
  ['ICR reserved bits', ({ info, low }) => info?.offset === REG.ICR && (low & ICR.X2APIC_RESERVED) !== 0],
  ['bits 63:32', ({ high }) => high !== 0],
  ['SELF_IPI reserved bits', ({ info }) => info?.offset === REG.SELF_IPI],
  ['ESR not zero', ({ info }) => info?.offset === REG.ESR],
  ['write of a read-only register', ({ info }) => info?.x2apic.includes('r') === true],
  ['write of no register', () => true],
];
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
    ...GP_RULES.map(([rule]) => `#GP ${rule}`),
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
    if (result.fault === GP) this.coverage.hit(`#GP ${faultRule(operation, before)}`);
    else if (kind === 'mmio-read' || kind === 'mmio-write') this.#mmio(operation, before);
    else if ((kind === 'rdmsr' || kind === 'wrmsr') && before === 'x2apic')
      this.#register('x2APIC', kind, msrOffset(address));
    if (before !== after) this.coverage.hit(`${before} to ${after}`);
    const delivery = deliveryMode(operation);
    const arrives = kind === 'mmio-write' ? before === 'xapic' && operation.size === 4 && address % 16 === 0 : true;
    if (delivery >= 0 && result.fault === 0 && arrives)
      this.#ipi(before === 'x2apic' ? 'x2APIC' : 'xAPIC', delivery, operation.low);
  }

  took(event: (typeof EVENTS)[number]): void {
    this.coverage.hit(`taken ${event}`);
  }

  #mmio({ kind, address, size }: GuestOperation, mode: ApicMode): void {
    if (mode !== 'xapic') {
      this.coverage.hit(mode === 'x2apic' ? 'MMIO in x2APIC mode' : 'MMIO while disabled');
      return;
    }
    this.coverage.hit(`MMIO ${kind === 'mmio-read' ? 'read' : 'write'} of ${size}`);
    if (address % 16 !== 0) this.coverage.hit('MMIO unaligned');
    else if (size === 4) this.#register('xAPIC', kind, address % PAGE_BYTES);
  }

  #register(name: string, kind: GuestOperation['kind'], offset: number): void {
    const info = BY_OFFSET.get(offset);
    if (info === undefined) return;
    const access = kind === 'mmio-read' || kind === 'rdmsr' ? 'read' : 'write';
    if (info[name === 'xAPIC' ? 'xapic' : 'x2apic'].includes(access[0] ?? ''))
      this.coverage.hit(`${name} ${access} ${info.name}`);
  }

  #ipi(name: string, delivery: number, low: number): void {
    this.coverage.hit(`${name} IPI ${DELIVERY_NAMES[delivery]}`);
    this.coverage.hit(`${name} IPI ${SHORTHANDS[(low >>> 18) & 3]}`);
    if ((low & (1 << 11)) !== 0) this.coverage.hit(`${name} IPI logical`);
  }
}

function faultRule(operation: GuestOperation, mode: ApicMode): string {
  const refused = { ...operation, mode, info: BY_OFFSET.get(msrOffset(operation.address)) };
  return GP_RULES.find(([, applies]) => applies(refused))?.[0] ?? '';
}
