/** The options of `apiary run`, in one place: how they read on the command line and what they are to a Machine. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { type ApicSystemOptions, BEHAVIOURS, isRuleName, parseApicOption, type RuleName } from '../apic/index.ts';
import type { BootOptions } from '../machine/boot-image.ts';
import { DEBUG_CONSOLES, type DebugConsole, type MachineOptions } from '../machine/options.ts';
import { DEFAULT_TRACE_BYTES } from '../trace/trace-file.ts';
import { type CpuList, cpuList, duration, size, wholeNumber } from './parse.ts';

/** CPUs to plug or to ask back, in the order of the command line. */
export interface HotplugAction {
  readonly kind: 'hotplug' | 'unplug';
  readonly apicId: number;
}

interface X2apicApi {
  use32bitIds?: boolean;
  disableBroadcastQuirk?: boolean;
}

export interface RunOptions {
  readonly cpus: CpuList;
  readonly memory: number;
  readonly apic: 'user' | 'kernel';
  readonly x2apicApi?: X2apicApi;
  readonly behaviour: NonNullable<MachineOptions['behaviour']>;
  readonly threads?: number;
  readonly cpu: string;
  readonly timeout?: number;
  readonly trace?: string;
  readonly traceLimit: number;
  readonly watch?: boolean;
  readonly vga?: boolean;
  readonly failMapAllocation?: boolean;
  readonly vectorHashing: boolean;
  readonly kernelArgs?: string;
  readonly initrd?: readonly string[];
  readonly loadAddress?: number;
  readonly reboot?: boolean;
  readonly keepHalted?: boolean;
  readonly debugConsole: DebugConsole;
  readonly apicOption?: ApicSystemOptions;
  readonly break?: readonly RuleName[];
  readonly sandbox?: boolean;
  readonly script?: string;
}

const FLAGS: Readonly<Record<string, keyof X2apicApi>> = {
  'use-32bit-ids': 'use32bitIds',
  'disable-broadcast-quirk': 'disableBroadcastQuirk',
};

function x2apicApi(text: string): X2apicApi {
  const api: X2apicApi = {};
  for (const word of text.split(',').map((each) => each.trim())) {
    const flag = FLAGS[word];
    if (!flag) throw new InvalidArgumentError(`'${word}' is not a flag; choose ${Object.keys(FLAGS).join(', ')}.`);
    api[flag] = true;
  }
  return api;
}

const EXAMPLES = `
Exit status: odd is the guest's own, through the debug exit port 0xf4: value v gives (v << 1) | 1, so 1 is a
guest's success. Even is the command's:
  0 the guest powered off or reset     2 wrong options or image     4 the host cannot do it
  10 a vCPU failed                    12 nobody reads the output   70 a bug in apiary
  14 every CPU halted for good       124 --timeout                 130 Ctrl-C, SIGINT, SIGTERM, SIGHUP

On a terminal Ctrl-A is the escape: Ctrl-A x ends the run, Ctrl-A Ctrl-C sends Ctrl-C to the guest, Ctrl-A h is help.

Examples:
  apiary run guest/build/hello.elf
  apiary run guest/build/hotplug.elf --cpus 0,0x23 --hotplug 0x123 --x2apic-api use-32bit-ids
  apiary run guest/build/storm.elf --cpus 8 --threads 2 --trace storm.json`;

/** Filled by commander while it reads the command line: it has no option for "these two, in order". */
export const hotplugActions: HotplugAction[] = [];

function apicOption(text: string, before: ApicSystemOptions = {}): ApicSystemOptions {
  try {
    return { ...before, ...parseApicOption(text) };
  } catch (error) {
    if (error instanceof RangeError) throw new InvalidArgumentError(`${error.message}.`);
    throw error;
  }
}

function rule(text: string, before: readonly RuleName[] = []): readonly RuleName[] {
  if (!isRuleName(text)) throw new InvalidArgumentError(`there is no rule '${text}'; apiary rules lists them.`);
  return [...before, text];
}

function action(kind: HotplugAction['kind']): (text: string) => true {
  return (text) => {
    hotplugActions.push({ kind, apicId: wholeNumber(text) });
    return true;
  };
}

export function addRunOptions(command: Command): Command {
  return command
    .addOption(
      new Option('--cpus <list>', 'how many (4), or their APIC IDs (0,1,0x23); also maxcpus=300 and ids=…')
        .argParser(cpuList)
        .default(cpuList('1'), '1'),
    )
    .option('--hotplug <id>', 'hot-add the CPU with this APIC ID (repeatable)', action('hotplug'))
    .option('--unplug <id>', 'ask the guest to give it back, once it is up; carried out in order', action('unplug'))
    .addOption(
      new Option('--memory <size>', 'guest RAM, 2M to 3G; a small number alone is in MiB')
        .argParser(size)
        .default(size('64M'), '64M'),
    )
    .addOption(
      new Option('--apic <whose>', 'our local APICs or the ones in KVM').choices(['user', 'kernel']).default('user'),
    )
    .option('--x2apic-api <flags>', `KVM_CAP_X2APIC_API: ${Object.keys(FLAGS).join(', ')}`, x2apicApi)
    .addOption(
      new Option('--behaviour <rules>', 'which rules our local APICs follow').choices([...BEHAVIOURS]).default('kvm'),
    )
    .option('--threads <n>', 'worker threads; 1 makes every interleaving repeatable', wholeNumber)
    .option('--cpu <features>', 'CPU features, e.g. host,-cx16,-x2apic', 'host')
    .option('--kernel-args <line>', 'command line of a Linux, multiboot or PVH image')
    .option('--initrd <file>', 'initrd or boot module (repeatable)', (file: string, files: string[] = []) => [
      ...files,
      file,
    ])
    .option('--load-address <address>', 'raw image: guest-physical address below 1 MiB', wholeNumber)
    .option('--reboot', 'a reset starts the image again; without it a reset ends the run')
    .option('--keep-halted', 'go on waiting when every CPU is halted with interrupts off; without it that ends the run')
    .addOption(
      new Option('--debug-console <where>', 'where text written to ports 0xe9 and 0x402 goes')
        .choices([...DEBUG_CONSOLES])
        .default('serial'),
    )
    .option('--timeout <time>', 'end the run after this long, e.g. 30s', duration)
    .option('--watch', 'a live view on the terminal: each CPU, its vectors, interrupts and exits a second')
    .addOption(
      new Option(
        '--vga',
        "a live view of the guest's 80x25 text screen, where stdout is a terminal; without it the screen is shown at the end",
      ).conflicts('watch'),
    )
    .option('--trace <file>', 'write each APIC event to a file that ui.perfetto.dev opens')
    .addOption(
      new Option('--trace-limit <size>', 'end the trace, not the run, when its file is as large')
        .argParser(size)
        .default(DEFAULT_TRACE_BYTES, '256M'),
    )
    .option('--fail-map-allocation', 'the optimized APIC map can never be allocated: everything goes by scan')
    .option('--no-vector-hashing', 'lowest priority by arbitration priority rather than by vector hashing')
    .option('--apic-option <name=value>', 'any other option of our local APICs (repeatable)', apicOption)
    .option('--break <rule>', 'switch a rule of our local APICs off (repeatable)', rule)
    .option('--sandbox', 'while the guest runs, this process may open, execute and connect to nothing (seccomp)')
    .addOption(new Option('--script <url>', 'scripted guests in place of KVM, for tests').hideHelp())
    .addHelpText('after', EXAMPLES);
}

export function machineOptions(options: RunOptions, actions: readonly HotplugAction[]): MachineOptions {
  const present = new Set(options.cpus.cpus);
  const added = actions.map(({ apicId }) => apicId).filter((apicId) => !present.has(apicId));
  return {
    cpus: options.cpus.cpus,
    hotpluggable: [...options.cpus.hotpluggable, ...added],
    memory: options.memory,
    apic: options.apic,
    ...(options.x2apicApi ? { x2apicApi: options.x2apicApi } : {}),
    behaviour: options.behaviour,
    ...(options.threads === undefined ? {} : { threads: options.threads }),
    cpu: options.cpu,
    ...(options.timeout === undefined ? {} : { timeoutMs: options.timeout }),
    trace: options.trace !== undefined,
    failMapAllocation: options.failMapAllocation ?? false,
    reboot: options.reboot ?? false,
    keepHalted: options.keepHalted ?? false,
    debugConsole: options.debugConsole,
    vectorHashing: options.vectorHashing,
    ...(options.apicOption === undefined ? {} : { apicOptions: options.apicOption }),
    ...(options.break === undefined ? {} : { breakRules: options.break }),
    ...(options.sandbox === true ? { sandbox: 'process' as const } : {}),
    ...(options.script === undefined ? {} : { script: options.script }),
  };
}

export function bootOptions(options: RunOptions): BootOptions {
  return {
    ...(options.kernelArgs === undefined ? {} : { commandLine: options.kernelArgs }),
    ...(options.initrd === undefined ? {} : { modules: options.initrd }),
    ...(options.loadAddress === undefined ? {} : { loadAddress: options.loadAddress }),
  };
}
