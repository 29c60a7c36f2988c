/**
 * What `apiary doctor` knows: whether this host can run guests, as facts with a remedy for each that is not as it should
 * be. Nothing is printed here, and nothing throws: what cannot be found out is a fact that is not ok.
 */
import { accessSync, constants, existsSync, readFileSync, statSync } from 'node:fs';
import { API_VERSION, Cap, capName, SyncRegs } from './constants.ts';
import { openAdvice } from './device.ts';
import { KvmError } from './errors.ts';
import type { System } from './system.ts';

/** One thing that was found out about this host. */
export interface Fact {
  /** 'open /dev/kvm', 'KVM_CAP_MAX_VCPU_ID' */
  readonly name: string;
  readonly ok: boolean;
  /** What was found, in a few words. */
  readonly detail: string;
  /** What to do; '' when ok. */
  readonly remedy: string;
}

const DEVICE = '/dev/kvm';
const OLD_KERNEL = 'a newer kernel (or KVM module) is needed';
/** The demo's hot-added CPU has APIC ID 0x123. */
const VCPU_IDS_NEEDED = 0x124;
/** Descriptors for a small machine: its vCPUs, Node's own and a few for devices. */
const DESCRIPTORS_NEEDED = 128;
const DESCRIPTORS_OF_NODE = 64;
const VENDOR_MODULES = ['kvm_intel', 'kvm_amd', 'kvm_pvm'] as const;
/** A kernel module that runs guests, by its name in /sys/module. */
export type VendorModule = (typeof VENDOR_MODULES)[number];

/** From which value on it is enough, the kernel that brought it, and what it is for. src/TROUBLESHOOTING.md has them all. */
type Needed = readonly [capability: Cap, least: number, since: string, use: string];
export const CAPABILITIES: readonly Needed[] = [
  [Cap.USER_MEMORY, 1, '2.6.24', 'guest memory'],
  [Cap.SET_TSS_ADDR, 1, '2.6.24', 'real mode on VMX'],
  [Cap.EXT_CPUID, 1, '2.6.26', 'CPUID'],
  [Cap.MP_STATE, 1, '2.6.27', 'vCPU states'],
  [Cap.USER_NMI, 1, '2.6.31', 'NMIs from our APICs'],
  [Cap.VCPU_EVENTS, 1, '2.6.33', 'INIT'],
  [Cap.GET_TSC_KHZ, 1, '3.0', 'the TSC deadline timer'],
  [Cap.ENABLE_CAP_VM, 1, '3.14', 'switching capabilities on'],
  [Cap.SYNC_REGS, SyncRegs.EVENTS, '4.17', 'interrupts from our APICs'],
  [Cap.IMMEDIATE_EXIT, 1, '4.12', 'kicks that are never lost'],
  [Cap.X86_USER_SPACE_MSR, 1, '5.10', 'x2APIC registers of our APICs'],
  [Cap.X86_MSR_FILTER, 1, '5.10', 'IA32_APIC_BASE and IA32_TSC_DEADLINE of our APICs'],
  [Cap.MAX_VCPUS, 2, '3.2', 'more than one CPU'],
  [Cap.MAX_VCPU_ID, VCPU_IDS_NEEDED, '4.8', 'APIC IDs over 0xff'],
  [Cap.SIGNAL_MSI, 1, '3.5', '--apic kernel'],
  [Cap.SPLIT_IRQCHIP, 1, '4.4', '--apic kernel'],
  [Cap.X2APIC_API, 1, '4.8', '--apic kernel with 32-bit IDs'],
];

/** Which module runs the guests, from /sys/module; undefined when none is loaded. */
export function vendorModule(): VendorModule | undefined {
  return VENDOR_MODULES.find((name) => existsSync(`/sys/module/${name}`));
}

/** A parameter of KVM's module, such as 'vector_hashing' ('Y' or 'N'); undefined when it cannot be read. */
export function kvmParameter(name: string, module: 'kvm' | VendorModule = 'kvm'): string | undefined {
  try {
    return readFileSync(`/sys/module/${module}/parameters/${name}`, 'utf8').trim();
  } catch {
    return undefined;
  }
}

/** All facts, in the order in which a person would look at them. Those that depend on one that is not ok are left out. */
export async function examine(): Promise<Fact[]> {
  const first = [platformFact(), moduleFact()];
  if (first.every(({ ok }) => ok)) first.push(deviceFact());
  const usable = first.every(({ ok }) => ok);
  return [...first, ...(await addonFacts(usable)), descriptorsFact()];
}

function fact(name: string, ok: boolean, detail: string, remedy: string): Fact {
  return { name, ok, detail, remedy: ok ? '' : remedy };
}

function platformFact(): Fact {
  const found = `${process.platform} ${process.arch}`;
  return fact('platform', found === 'linux x64', found, 'apiary runs on Linux on x86-64 only');
}

function moduleFact(): Fact {
  const found = vendorModule();
  const detail = found === 'kvm_pvm' ? 'kvm_pvm (software KVM: exits are slow, some instructions are missing)' : found;
  const ok = found !== undefined || existsSync(DEVICE); // one we do not know by name is as good
  return fact('KVM module', ok, detail ?? (ok ? 'unknown' : 'none loaded'), openAdvice(DEVICE, 'ENOENT'));
}

function deviceFact(): Fact {
  try {
    const isDevice = statSync(DEVICE).isCharacterDevice();
    if (!isDevice) return fact(DEVICE, false, 'not a device', 'remove it and load KVM again');
    accessSync(DEVICE, constants.R_OK | constants.W_OK);
    return fact(DEVICE, true, 'readable and writable', '');
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    return fact(DEVICE, false, code === 'ENOENT' ? 'not there' : `not for you (${code})`, openAdvice(DEVICE, code));
  }
}

/** @param usable whether there is a device to ask */
async function addonFacts(usable: boolean): Promise<Fact[]> {
  let kvm: typeof import('./system.ts');
  try {
    kvm = await import('./system.ts'); // loads the addon, which may not have been built
  } catch (error) {
    return [
      fact(
        'addon',
        false,
        firstLine(error),
        'npm rebuild apiary, in a checkout npm run build, makes it (needs Linux on x86-64 and a C compiler)',
      ),
    ];
  }
  const facts = [fact('addon', true, 'loads', '')];
  if (!usable) return facts;
  try {
    const system = kvm.System.open(DEVICE);
    try {
      facts.push(versionFact(system), ...CAPABILITIES.map((needed) => capabilityFact(system, needed)));
      system.createVm().close(); // that KVM is there does not mean that no other hypervisor holds the hardware
      facts.push(fact('create a VM', true, 'works', ''));
    } finally {
      system.close();
    }
  } catch (error) {
    if (!(error instanceof KvmError)) throw error;
    facts.push(fact(error.ioctl, false, `${error.code} from ${DEVICE}`, error.remedy || 'look at the end of `dmesg`'));
  }
  return facts;
}

function versionFact(system: System): Fact {
  const version = system.apiVersion();
  return fact('KVM API', version === API_VERSION, `version ${version}`, `${OLD_KERNEL}, with version ${API_VERSION}`);
}

function capabilityFact(system: System, [capability, least, since, use]: Needed): Fact {
  const value = system.checkExtension(capability);
  const ok = value >= least;
  return fact(capName(capability), ok, ok ? `${value}` : `${value}, for ${use}`, `${OLD_KERNEL}: Linux ${since}`);
}

function descriptorsFact(): Fact {
  const limits = limitsText();
  if (limits === undefined) return fact('open descriptors', true, 'unknown: there is no /proc', '');
  const soft = Number(/^Max open files\s+(\d+)/m.exec(limits)?.[1] ?? Number.POSITIVE_INFINITY); // or 'unlimited'
  const vcpus = Math.max(0, soft - DESCRIPTORS_OF_NODE);
  const detail = `${soft}: enough for ${vcpus} vCPUs`;
  return fact('open descriptors', soft >= DESCRIPTORS_NEEDED, detail, 'raise the limit with `ulimit -n 4096`');
}

function firstLine(error: unknown): string {
  return String(error instanceof Error ? error.message : error).split('\n', 1)[0] ?? '';
}

function limitsText(): string | undefined {
  try {
    return readFileSync('/proc/self/limits', 'utf8');
  } catch {
    return undefined;
  }
}
