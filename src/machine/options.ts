/**
 * What a machine can be made of, and the one place where it is checked. Sizes are in bytes once they are parsed.
 */

import {
  APIC_OPTION_NAMES,
  type ApicSystemOptions,
  type Behaviour,
  isRuleName,
  RULE_NAMES,
  type RuleName,
  resolveOptions,
} from '../apic/index.ts';
import { hex } from '../hex.ts';
import { ConfigError } from './errors.ts';
import type { Players } from './player.ts';
import {
  checkShapes,
  FLAG,
  FLAG_OR_PROCESS,
  FUNCTION,
  NUMBER,
  NUMBER_OR_NUMBERS,
  NUMBER_OR_TEXT,
  NUMBERS,
  OBJECT,
  type Shapes,
  SIGNAL,
  suggestion,
  TEXT,
  TEXTS,
  URLS,
} from './shapes.ts';

/** Where the text of the debug consoles goes, see `MachineOptions.debugConsole`. */
export const DEBUG_CONSOLES = ['serial', 'stderr', 'off'] as const;
/** One of `DEBUG_CONSOLES`. */
export type DebugConsole = (typeof DEBUG_CONSOLES)[number];

/** Where RAM ends at the latest: the I/O APIC, the local APICs and KVM's own pages are above. */
const MAX_MEMORY = 0xc000_0000;
const MIN_MEMORY = 0x20_0000;
const MAX_TIMEOUT_MS = 2 ** 31 - 1; // setTimeout's
/** Room for CPUs that are hot-added without having been named: 1.3 kB of APIC each, in every machine. */
const UNNAMED_CPUS = 64;

/** What a machine can be made of; everything has a default. Checked when the machine is created, in JavaScript as well. */
export interface MachineOptions {
  /** Guest RAM from guest-physical address 0: bytes, or a string such as '64M'. 2 MiB to 3 GiB; default 64 MiB. */
  memory?: number | string;
  /** The boot-time vCPUs: how many (APIC IDs 0, 1, 2, ...), or their APIC IDs; the first is the boot CPU. Default 1. */
  cpus?: number | readonly number[];
  /** APIC IDs of CPUs that are absent at start and may be hot-added; up to 64 others may be hot-added all the same. */
  hotpluggable?: readonly number[];
  /** Whose local APICs: ours in TypeScript ('user', default) or KVM's own ('kernel', split irqchip). */
  apic?: 'user' | 'kernel';
  /** KVM_CAP_X2APIC_API's flags: the gate, and the switch for the broadcast quirk. Default off, as KVM's. */
  x2apicApi?: { use32bitIds?: boolean; disableBroadcastQuirk?: boolean };
  /** The rules our APICs follow: a kernel's KVM ('kvm' is the newest) or hardware's. Default 'kvm'. */
  behaviour?: Behaviour;
  /** Makes every allocation of the optimized APIC map fail, as when the kernel is out of memory: all by scan. */
  failMapAllocation?: boolean;
  /** Lowest-priority delivery by vector hashing (KVM's default) or by arbitration priority (false). */
  vectorHashing?: boolean;
  /** Worker threads that run vCPUs. Default: as many as host cores, at most one for each vCPU; one per vCPU under 'kernel'. */
  threads?: number;
  /** CPU features: 'host' and what to add or take away by name, for example 'host,-cx16,-x2apic'. */
  cpu?: string;
  /** Ends the run after this many milliseconds; default never. */
  timeoutMs?: number;
  /** A reset (port 0xcf9, keyboard controller, triple fault) starts the image again rather than ending the run. */
  reboot?: boolean;
  /** Goes on waiting when every CPU is halted with interrupts off and no device can send an NMI, rather than ending the run. */
  keepHalted?: boolean;
  /** Ask for the 'trace' event: what happens to interrupts and CPUs. Costs time on each. */
  trace?: boolean;
  /**
   * The debug consoles at ports 0xe9 and 0x402: their text joins the serial port's (default), is told by 'debugOutput' events,
   * which the command writes to stderr, or they are not there.
   */
  debugConsole?: DebugConsole;
  /** Rules of our APICs to switch off, to see that a test notices (src/apic/rules.ts). Default none. */
  breakRules?: readonly RuleName[];
  /**
   * Everything else that our APICs can be made of (`ApicSystemOptions`), for example `suppressEoiBroadcast`. What is given
   * here wins over the option of this list that says the same, and over what the host and the CPUID say (`tscKhz`,
   * `x2apicCpuid` ...). Only `maxApics`, `maxApicId` and `shared` are the machine's own.
   */
  apicOptions?: ApicSystemOptions;
  /**
   * Seccomp for the time that the guest runs: what a run needs of the kernel, and nothing else (src/kvm/seccomp.ts). True: on
   * the machine's worker threads, which no later machine gets; code that broke out of a guest can still reach the rest of the
   * process through its memory. 'process': on every thread of the process, for good; for a process that does nothing else
   * afterwards but run this machine. Under `apic: 'kernel'` only CPUs of `hotpluggable` can then come. Default off.
   */
  sandbox?: boolean | 'process';
  /**
   * Ends the machine when it aborts, with `{ reason: 'stopped', status: 130 }`, as an interrupt from the keyboard does; one that
   * has aborted already makes `create` reject with its reason.
   */
  signal?: AbortSignal;
  /**
   * Modules of devices of your own: each exports `devices`, a `DeviceModule['devices']`. Worker threads load them, so they are
   * given by absolute URL (a URL or its text), and are JavaScript. They join the bus after the machine's own, in this order.
   */
  devices?: readonly (string | URL)[];
  /** @internal URL of a module of scripted guests that take KVM's place (scripted-machine.ts). */
  script?: string;
  /** @internal Who plays the workers; default: threads. */
  players?: Players;
}

/** The same, checked, with nothing left out. */
export interface MachineConfig {
  readonly memoryBytes: number;
  readonly cpus: readonly number[];
  readonly hotpluggable: readonly number[];
  /** How many vCPUs there can be. */
  readonly maxVcpus: number;
  readonly apic: 'user' | 'kernel';
  readonly use32bitIds: boolean;
  readonly disableBroadcastQuirk: boolean;
  readonly behaviour: Behaviour;
  readonly failMapAllocation: boolean;
  readonly vectorHashing: boolean;
  readonly threads: number;
  readonly cpu: string;
  readonly timeoutMs: number;
  readonly reboot: boolean;
  readonly keepHalted: boolean;
  readonly trace: boolean;
  readonly debugConsole: DebugConsole;
  /** What of our APICs was asked for: those above and all the others. */
  readonly apicOptions: ApicSystemOptions;
  readonly sandbox: 'off' | 'threads' | 'process';
  /** URLs of modules. */
  readonly devices: readonly string[];
  readonly script: string | null;
}

/** What the host's KVM takes, and what it runs on. */
export interface HostLimits {
  /** KVM_CAP_MAX_VCPUS. */
  readonly maxVcpus: number;
  /** KVM_CAP_MAX_VCPU_ID: IDs are below it. */
  readonly maxVcpuId: number;
  readonly cores: number;
}

const SHAPES: Shapes<MachineOptions> = {
  memory: NUMBER_OR_TEXT,
  cpus: NUMBER_OR_NUMBERS,
  hotpluggable: NUMBERS,
  apic: TEXT,
  x2apicApi: OBJECT,
  behaviour: TEXT,
  failMapAllocation: FLAG,
  vectorHashing: FLAG,
  threads: NUMBER,
  cpu: TEXT,
  timeoutMs: NUMBER,
  reboot: FLAG,
  keepHalted: FLAG,
  trace: FLAG,
  debugConsole: TEXT,
  breakRules: TEXTS,
  apicOptions: OBJECT,
  sandbox: FLAG_OR_PROCESS,
  signal: SIGNAL,
  devices: URLS,
  players: FUNCTION,
  script: TEXT,
};

const X2APIC_API_SHAPES: Shapes<NonNullable<MachineOptions['x2apicApi']>> = {
  use32bitIds: FLAG,
  disableBroadcastQuirk: FLAG,
};

/** '64M', '1G', '4096K', '8388608' -> bytes. */
export function parseSize(text: string): number {
  // Without the flag i, which loads Unicode's tables: 2 ms of each start.
  const match = /^(\d+)([KMG])?(?:I?B)?$/.exec(text.trim().toUpperCase());
  if (!match) throw new ConfigError(`memory '${text}' is not a size; write for example 64M or 1G`);
  const shift = { '': 0, K: 10, M: 20, G: 30 }[match[2] ?? ''] ?? 0;
  return Number(match[1]) * 2 ** shift;
}

function checkMemory(memory: number | string): number {
  const bytes = typeof memory === 'string' ? parseSize(memory) : memory;
  if (!Number.isSafeInteger(bytes) || bytes < MIN_MEMORY || bytes > MAX_MEMORY) {
    throw new ConfigError(`memory ${asWritten(memory)} is out of range: give 2M to 3G`);
  }
  return Math.ceil(bytes / 4096) * 4096;
}

/** The command's sizes arrive in bytes, which nobody typed. */
function asWritten(memory: number | string): string {
  const mebibytes = Number(memory) / 2 ** 20;
  return Number.isInteger(mebibytes) && mebibytes > 0 ? `${mebibytes}M` : `${memory}`;
}

/** @throws ConfigError unless `apicId` can be given to KVM_CREATE_VCPU on this host. */
export function checkApicId(apicId: number, limits: Pick<HostLimits, 'maxVcpuId'>): void {
  if (!Number.isInteger(apicId) || apicId < 0)
    throw new ConfigError(`APIC ID ${apicId} is not a whole number from 0 on`);
  if (apicId >= limits.maxVcpuId) {
    throw new ConfigError(
      `APIC ID ${hex(apicId)} is too large: this host's KVM takes IDs up to ${hex(limits.maxVcpuId - 1)}`,
    );
  }
}

function checkCpus(options: MachineOptions, limits: HostLimits): number[] {
  const cpus = options.cpus ?? 1;
  if (typeof cpus === 'number') {
    if (!Number.isInteger(cpus) || cpus < 1 || cpus > limits.maxVcpus) {
      throw new ConfigError(`cpus ${cpus} is out of range: this host's KVM runs 1 to ${limits.maxVcpus} vCPUs`);
    }
    checkApicId(cpus - 1, limits);
    return Array.from({ length: cpus }, (_, index) => index);
  }
  if (cpus.length === 0) throw new ConfigError('cpus is empty: a machine needs a boot CPU, for example cpus: [0]');
  return [...cpus];
}

function oneOf<T extends string>(what: string, value: T, allowed: readonly T[]): T {
  if (!allowed.includes(value)) throw new ConfigError(`${what} '${value}' is not known; choose ${allowed.join(', ')}`);
  return value;
}

function checkThreads(options: MachineOptions, cpus: number, limits: HostLimits): number {
  if (options.threads === undefined) return Math.min(limits.cores, Math.max(cpus, 2));
  if (!Number.isInteger(options.threads) || options.threads < 1 || options.threads > 256) {
    throw new ConfigError(`threads ${options.threads} is out of range: give 1 to 256`);
  }
  return options.threads;
}

/** @throws ConfigError for an option that there is not, and for a value of the wrong kind */
export function checkOptionShapes(options: MachineOptions): void {
  checkShapes('option', options, SHAPES);
  checkShapes('x2apicApi option', options.x2apicApi ?? {}, X2APIC_API_SHAPES);
}

/** @throws ConfigError for anything that cannot work, before anything is created. */
export function checkOptions(options: MachineOptions, limits: HostLimits): MachineConfig {
  checkOptionShapes(options);
  const cpus = checkCpus(options, limits);
  const hotpluggable = [...new Set(options.hotpluggable ?? [])];
  const seen = new Set<number>();
  for (const apicId of [...cpus, ...hotpluggable]) {
    checkApicId(apicId, limits);
    if (seen.has(apicId)) throw new ConfigError(`APIC ID ${hex(apicId)} is given twice; each vCPU needs its own`);
    seen.add(apicId);
  }
  if (seen.size > limits.maxVcpus) {
    throw new ConfigError(`${seen.size} vCPUs are too many: this host's KVM runs up to ${limits.maxVcpus} in one VM`);
  }
  const timeoutMs = options.timeoutMs ?? Number.POSITIVE_INFINITY;
  if (!(timeoutMs > 0) || (timeoutMs > MAX_TIMEOUT_MS && timeoutMs !== Number.POSITIVE_INFINITY)) {
    throw new ConfigError(`timeout ${timeoutMs} ms is out of range: give more than 0 and less than 24 days`);
  }
  const apic = oneOf('apic', options.apic ?? 'user', ['user', 'kernel']);
  const apicOptions = checkApicOptions(options, apic);
  return {
    memoryBytes: checkMemory(options.memory ?? '64M'),
    cpus,
    hotpluggable,
    maxVcpus: Math.min(limits.maxVcpus, seen.size + UNNAMED_CPUS),
    apic,
    use32bitIds: apicOptions.x2apicFormat,
    disableBroadcastQuirk: apicOptions.broadcastQuirkDisabled,
    behaviour: apicOptions.behaviour,
    failMapAllocation: apicOptions.failMapAllocation,
    vectorHashing: apicOptions.vectorHashing,
    threads: checkThreads(options, cpus.length, limits),
    cpu: options.cpu ?? 'host',
    timeoutMs,
    reboot: options.reboot ?? false,
    keepHalted: options.keepHalted ?? false,
    trace: options.trace ?? false,
    debugConsole: oneOf('debugConsole', options.debugConsole ?? 'serial', DEBUG_CONSOLES),
    apicOptions,
    sandbox: options.sandbox === 'process' ? 'process' : options.sandbox === true ? 'threads' : 'off',
    devices: (options.devices ?? []).map(String),
    script: options.script ?? null,
  };
}

const NAMED = ['x2apicFormat', 'broadcastQuirkDisabled', 'behaviour', 'failMapAllocation', 'vectorHashing'] as const;
type NamedOptions = Required<Pick<ApicSystemOptions, (typeof NAMED)[number]>>;

/** @throws ConfigError for an option that would do nothing */
function checkKernelApic({ trace, behaviour = 'kvm', failMapAllocation, vectorHashing }: MachineOptions): void {
  const given: readonly (readonly [what: string, given: boolean])[] = [
    ['trace', trace === true],
    [`behaviour ${behaviour}`, behaviour !== 'kvm'],
    ['a failing map allocation', failMapAllocation === true],
    ['no vector hashing', vectorHashing === false],
  ];
  const useless = given.find(([, is]) => is);
  if (useless === undefined) return;
  throw new ConfigError(
    `${useless[0]} is for our APICs and does nothing with KVM's: leave it out, or choose apic 'user'`,
  );
}

/** @throws ConfigError for what no APIC system takes, and for what the machine decides itself */
function checkApicOptions(options: MachineOptions, apic: MachineConfig['apic']): ApicSystemOptions & NamedOptions {
  if (apic === 'kernel') checkKernelApic(options);
  const asked = options.apicOptions ?? {};
  for (const name of ['maxApics', 'maxApicId', 'shared'] as const) {
    if (asked[name] !== undefined) throw new ConfigError(`the APIC option ${name} is the machine's own: leave it out`);
  }
  const breakRules = [...(options.breakRules ?? []), ...(asked.breakRules ?? [])];
  if (apic === 'kernel' && (breakRules.length > 0 || Object.keys(asked).length > 0)) {
    throw new ConfigError("APIC options and rules to break are for our APICs: leave them out, or choose apic 'user'");
  }
  const unknown = breakRules.find((rule) => !isRuleName(rule));
  if (unknown !== undefined) throw new ConfigError(`there is no rule '${unknown}'${suggestion(unknown, RULE_NAMES)}`);
  const names: readonly string[] = [...APIC_OPTION_NAMES, 'breakRules'];
  const stranger = Object.keys(asked).find((name) => !names.includes(name));
  if (stranger !== undefined)
    throw new ConfigError(`there is no APIC option '${stranger}'${suggestion(stranger, names)}`);
  const all = {
    x2apicFormat: options.x2apicApi?.use32bitIds ?? false,
    broadcastQuirkDisabled: options.x2apicApi?.disableBroadcastQuirk ?? false,
    behaviour: options.behaviour ?? 'kvm',
    failMapAllocation: options.failMapAllocation ?? false,
    vectorHashing: options.vectorHashing ?? true,
    ...asked,
    breakRules,
  };
  try {
    resolveOptions(all);
  } catch (error) {
    if (error instanceof RangeError) throw new ConfigError(error.message);
    throw error;
  }
  return all;
}
