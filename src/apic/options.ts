/**
 * What can be chosen when a system of APICs is made, and what each choice is in KVM. Everything here is a property of the
 * VM or of the host, never of one APIC, and is written once, into the shared header, so that `ApicSystem.attach` sees it.
 */
import { BEHAVIOURS, type Behaviour } from './kernels.ts';
import { isRuleName, type RuleName } from './rules.ts';

/** KVM_X2APIC_API flags 2 and 3: neither ('quirk'), ENABLE or DISABLE_SUPPRESS_EOI_BROADCAST. */
export type SuppressEoiBroadcast = 'quirk' | 'enabled' | 'disabled';

/**
 * What a system of APICs can be made of: properties of the VM or of the host, never of one APIC. All may be left out.
 */
export interface ApicSystemOptions {
  /** The gate: KVM_X2APIC_API_USE_32BIT_IDS. Default false. */
  readonly x2apicFormat?: boolean;
  /** KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK. Default false. */
  readonly broadcastQuirkDisabled?: boolean;
  /** Default 'kvm'. */
  readonly behaviour?: Behaviour;
  /** Slots in shared memory, 1-4096. Default 64. */
  readonly maxApics?: number;
  /** Highest APIC ID that `addApic` accepts, 0-65535. Default 4095, as KVM_CAP_MAX_VCPU_ID - 1. */
  readonly maxApicId?: number;
  /** KVM's module parameter vector_hashing. Default true. */
  readonly vectorHashing?: boolean;
  /** Every allocation of the map fails, as kvzalloc can: everything goes by scan. Default false. */
  readonly failMapAllocation?: boolean;
  /** Default 'quirk'. */
  readonly suppressEoiBroadcast?: SuppressEoiBroadcast;
  /** KVM's I/O APIC is in the kernel; false is the split irqchip. Decides what the version register offers. Default false. */
  readonly ioapicInKernel?: boolean;
  /** Guest TSC frequency in kHz, for the deadline timer. Default 1,000,000 (1 TSC cycle is 1 ns). 0 stops the deadline timer. */
  readonly tscKhz?: number;
  /** True (default): a SharedArrayBuffer, so that threads can attach. */
  readonly shared?: boolean;
  /** KVM_CAP_X86_APIC_BUS_CYCLES_NS: nanoseconds for one APIC bus cycle. Default 1 (KVM's 1 GHz bus). */
  readonly busCycleNanos?: number;
  /** KVM's module parameter min_timer_period_us. Default 200. */
  readonly minTimerPeriodMicros?: number;
  /** MCG_CMCI_P in MCG_CAP: there is an LVT entry for CMCI. Default false. */
  readonly cmci?: boolean;
  /** CPUID.1:ECX[21], x2APIC. Default true. */
  readonly x2apicCpuid?: boolean;
  /** CPUID.1:ECX[24], TSC deadline. Default true. */
  readonly tscDeadlineCpuid?: boolean;
  /** CPUID.80000008H:EAX[7:0], 32-52: higher bits of IA32_APIC_BASE are reserved. Default 48. */
  readonly physicalAddressBits?: number;
  /**
   * kvm_x86_ops.x2apic_icr_is_split: true on AMD (SVM), where ICR and ICR2 hold the halves in x2APIC mode; false on Intel
   * (VMX) and on software KVM, where bytes 0x300-0x307 hold all of it. Default false.
   */
  readonly x2apicIcrSplit?: boolean;
  /** CONFIG_KVM_SMM of the host: an SMI counts as delivered. Default true. */
  readonly smm?: boolean;
  /** APICv or AVIC is active on the host: KVM then keeps no ISR cache. Default false. */
  readonly apicv?: boolean;
  /**
   * The kernel under /dev/kvm never shows a taken interrupt in ISR (KVM's auto-EOI vectors, for all vectors), as the
   * software KVM `pvm` does with its own APICs. For comparing with it only: a CPU has ISR. Default false.
   */
  readonly autoEoi?: boolean;
  /** KVM_X86_QUIRK_LINT0_REENABLED: the boot processor's LINT0 is ExtINT and unmasked after reset. Default true. */
  readonly lint0Reenabled?: boolean;
  /** A guest whose CPUID says Intel: a delivered performance LVT masks itself. Default true. */
  readonly intelCompatible?: boolean;
  /**
   * True: exactly as KVM_CREATE_VCPU leaves it, a new APIC is missing from the map until something else rebuilds it (any
   * KVM_SET_LAPIC does). Default false: a new APIC is in the map at once, which is what every VMM makes of it.
   */
  readonly lateMapEntry?: boolean;
  /** Rules to switch off (see rules.ts). Default none. */
  readonly breakRules?: readonly RuleName[];
}

export type ResolvedOptions = Required<ApicSystemOptions>;

/** How one option is checked, what it is when it is not given, and so how it is kept in the header. */
type OptionSpec =
  | { readonly kind: 'flag'; readonly initial: boolean }
  | { readonly kind: 'integer'; readonly initial: number; readonly low: number; readonly high: number }
  | { readonly kind: 'choice'; readonly initial: string; readonly choices: readonly string[] };

const flag = (initial: boolean) => ({ kind: 'flag', initial }) as const;
const integer = (initial: number, low: number, high: number) => ({ kind: 'integer', initial, low, high }) as const;
const choice = <T extends string>(initial: T, choices: readonly T[]) => ({ kind: 'choice', initial, choices }) as const;

/** Every option but the list of rules. The order is the header's: append only. */
export const APIC_OPTIONS = {
  x2apicFormat: flag(false),
  broadcastQuirkDisabled: flag(false),
  behaviour: choice<Behaviour>('kvm', BEHAVIOURS),
  maxApics: integer(64, 1, 4096),
  maxApicId: integer(4095, 0, 65535),
  vectorHashing: flag(true),
  failMapAllocation: flag(false),
  suppressEoiBroadcast: choice<SuppressEoiBroadcast>('quirk', ['quirk', 'enabled', 'disabled']),
  ioapicInKernel: flag(false),
  tscKhz: integer(1_000_000, 0, 0x7fffffff),
  shared: flag(true),
  busCycleNanos: integer(1, 1, 0x7fffffff),
  minTimerPeriodMicros: integer(200, 0, 0x7fffffff),
  cmci: flag(false),
  x2apicCpuid: flag(true),
  tscDeadlineCpuid: flag(true),
  physicalAddressBits: integer(48, 32, 52),
  x2apicIcrSplit: flag(false),
  smm: flag(true),
  apicv: flag(false),
  lint0Reenabled: flag(true),
  intelCompatible: flag(true),
  lateMapEntry: flag(false),
  autoEoi: flag(false),
} as const satisfies { readonly [Name in keyof PlainOptions]: OptionSpec };

type PlainOptions = Omit<ResolvedOptions, 'breakRules'>;
/** Names of the options that have one value: all but `breakRules`. */
export type ApicOptionName = keyof PlainOptions;
/** All of them, in the order in which they are kept. */
export const APIC_OPTION_NAMES = Object.keys(APIC_OPTIONS) as readonly ApicOptionName[];
const SPECS: readonly (readonly [ApicOptionName, OptionSpec])[] = APIC_OPTION_NAMES.map((name) => [
  name,
  APIC_OPTIONS[name],
]);

const INITIAL: Readonly<Record<string, unknown>> = {
  ...Object.fromEntries(SPECS.map(([name, { initial }]) => [name, initial])),
  breakRules: [],
};

export const isApicOptionName = (name: string): name is ApicOptionName => Object.hasOwn(APIC_OPTIONS, name);

function check(name: string, spec: OptionSpec, value: unknown): void {
  const said = typeof value === 'string' ? `'${value}'` : String(value);
  if (spec.kind === 'flag') {
    if (typeof value !== 'boolean') throw new RangeError(`${name} must be true or false, not ${said}`);
  } else if (spec.kind === 'choice') {
    if (typeof value !== 'string' || !spec.choices.includes(value)) {
      throw new RangeError(`${name} must be one of ${spec.choices.join(', ')}, not ${said}`);
    }
  } else if (!Number.isInteger(value) || (value as number) < spec.low || (value as number) > spec.high) {
    throw new RangeError(`${name} must be an integer from ${spec.low} to ${spec.high}, not ${said}`);
  }
}

/** Fills in the defaults. Throws RangeError for a value out of range and for a name that is no option or rule. */
export function resolveOptions(options: ApicSystemOptions): ResolvedOptions {
  const resolved: Record<string, unknown> = { ...INITIAL, ...options };
  for (const name of Object.keys(options)) {
    resolved[name] ??= INITIAL[name];
    if (name === 'breakRules') continue;
    if (!isApicOptionName(name)) {
      throw new RangeError(`there is no APIC option '${name}'; choose ${APIC_OPTION_NAMES.join(', ')}`);
    }
    check(name, APIC_OPTIONS[name], resolved[name]);
  }
  for (const rule of options.breakRules ?? []) {
    if (!isRuleName(rule)) throw new RangeError(`there is no rule '${rule}'`);
  }
  return resolved as unknown as ResolvedOptions;
}

/**
 * One option as text, `name=value`: true or false, a number (0x... too), or one of the choices.
 * @throws RangeError with what would do, for a name that is no option and for a value that does not fit it
 */
export function parseApicOption(text: string): ApicSystemOptions {
  const [name = '', value = ''] = text.split(/=(.*)/s);
  if (!isApicOptionName(name)) {
    throw new RangeError(`there is no APIC option '${name}'; choose ${APIC_OPTION_NAMES.join(', ')}`);
  }
  const spec: OptionSpec = APIC_OPTIONS[name];
  const isNumber = spec.kind === 'integer' && value.trim() !== '';
  const parsed = spec.kind === 'flag' ? (FLAG_WORDS.get(value) ?? value) : isNumber ? Number(value) : value;
  check(name, spec, parsed);
  return { [name]: parsed };
}

const FLAG_WORDS = new Map([
  ['true', true],
  ['false', false],
]);

/** Header words that the options need: one of flags, one for each of the others. */
export const OPTION_WORDS = 1 + SPECS.filter(([, { kind }]) => kind !== 'flag').length;

/** Writes checked options to the header, from word `at` on. */
export function optionsToWords(options: ResolvedOptions, words: Int32Array, at: number): void {
  let bit = 0;
  let word = at + 1;
  for (const [name, spec] of SPECS) {
    const value = options[name];
    if (spec.kind === 'flag') words[at] |= Number(value) << bit++;
    else words[word++] = spec.kind === 'choice' ? spec.choices.indexOf(value as string) : (value as number);
  }
}

/** The options that `optionsToWords` wrote, without the rules. */
export function wordsToOptions(words: Int32Array, at: number): PlainOptions {
  let bit = 0;
  let word = at + 1;
  const value = (spec: OptionSpec): unknown => {
    if (spec.kind === 'flag') return (words[at] & (1 << bit++)) !== 0;
    return spec.kind === 'choice' ? spec.choices[words[word++]] : words[word++];
  };
  return Object.fromEntries(SPECS.map(([name, spec]) => [name, value(spec)])) as unknown as PlainOptions;
}
