/**
 * What can be chosen when a system of APICs is made, and what each choice is in KVM. Everything here is a property of the
 * VM or of the host, never of one APIC, and is written once, into the shared header, so that `ApicSystem.attach` sees it.
 */
import type { RuleName } from './rules.ts';

/**
 * Whose routing rules apply:
 * - `kvm`: Linux 6.3 and later. The hotplug hack only with `x2apicFormat`.
 * - `kvm-legacy`: before commit 5b84b0291702 (v6.3). The hotplug hack always.
 * - `hardware`: no hack. An APIC in xAPIC mode compares the low 8 bits of a destination, whatever the upper ones are.
 */
export type Behaviour = 'kvm' | 'kvm-legacy' | 'hardware';
export const BEHAVIOURS: readonly Behaviour[] = ['kvm', 'kvm-legacy', 'hardware'];

/** KVM_X2APIC_API flags 2 and 3: neither ('quirk'), ENABLE or DISABLE_SUPPRESS_EOI_BROADCAST. */
export type SuppressEoiBroadcast = 'quirk' | 'enabled' | 'disabled';
export const SUPPRESS_MODES: readonly SuppressEoiBroadcast[] = ['quirk', 'enabled', 'disabled'];

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

export const DEFAULT_OPTIONS: ResolvedOptions = {
  x2apicFormat: false,
  broadcastQuirkDisabled: false,
  behaviour: 'kvm',
  maxApics: 64,
  maxApicId: 4095,
  vectorHashing: true,
  failMapAllocation: false,
  suppressEoiBroadcast: 'quirk',
  ioapicInKernel: false,
  tscKhz: 1_000_000,
  shared: true,
  busCycleNanos: 1,
  minTimerPeriodMicros: 200,
  cmci: false,
  x2apicCpuid: true,
  tscDeadlineCpuid: true,
  physicalAddressBits: 48,
  x2apicIcrSplit: false,
  smm: true,
  apicv: false,
  lint0Reenabled: true,
  intelCompatible: true,
  lateMapEntry: false,
  autoEoi: false,
  breakRules: [],
};

/** The booleans, in the order of their bits in the header. Append only. */
export const FLAG_OPTIONS = [
  'x2apicFormat',
  'broadcastQuirkDisabled',
  'vectorHashing',
  'failMapAllocation',
  'ioapicInKernel',
  'shared',
  'cmci',
  'x2apicCpuid',
  'tscDeadlineCpuid',
  'x2apicIcrSplit',
  'smm',
  'apicv',
  'lint0Reenabled',
  'intelCompatible',
  'lateMapEntry',
  'autoEoi',
] as const satisfies readonly (keyof ResolvedOptions)[];

function integer(name: string, value: number, low: number, high: number): void {
  if (!Number.isInteger(value) || value < low || value > high) {
    throw new RangeError(`${name} must be an integer from ${low} to ${high}, not ${value}`);
  }
}

/** Fills in the defaults. Throws RangeError for a number out of range or an unknown name. */
export function resolveOptions(options: ApicSystemOptions): ResolvedOptions {
  const resolved = { ...DEFAULT_OPTIONS, ...options };
  integer('maxApics', resolved.maxApics, 1, 4096);
  integer('maxApicId', resolved.maxApicId, 0, 65535);
  integer('tscKhz', resolved.tscKhz, 0, 0x7fffffff);
  integer('busCycleNanos', resolved.busCycleNanos, 1, 0x7fffffff);
  integer('minTimerPeriodMicros', resolved.minTimerPeriodMicros, 0, 0x7fffffff);
  integer('physicalAddressBits', resolved.physicalAddressBits, 32, 52);
  if (!BEHAVIOURS.includes(resolved.behaviour)) throw new RangeError(`unknown behaviour '${resolved.behaviour}'`);
  if (!SUPPRESS_MODES.includes(resolved.suppressEoiBroadcast)) {
    throw new RangeError(`unknown suppressEoiBroadcast '${resolved.suppressEoiBroadcast}'`);
  }
  return resolved;
}
