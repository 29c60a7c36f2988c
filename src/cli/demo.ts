/**
 * `apiary demo` (what `npm start` runs): the hotplug guest under each set of rules, gate off and gate on, beside KVM's own
 * local APIC. The kernel is asked first which of them it follows (conform/kernel-rules.ts). Exit status 1 if our guest under
 * those and the kernel's differ anywhere in the guest's report. Where there is no KVM, the rows that the model alone can say.
 * What is found is a value; demo-text.ts shows it to people.
 */
import { availableParallelism } from 'node:os';
import { holds } from '../apic/index.ts';
import { hex } from '../hex.ts';
import type { MachineOptions } from '../machine/options.ts';
import { ADDED_CPU, DESTINATIONS, hotplugRow } from '../route/hotplug.ts';
import { demoText } from './demo-text.ts';
import type { HotplugReport } from './hotplug-run.ts';
import { printJson } from './json.ts';
import { hostsWord, type WithoutKvm, whyNoKvm } from './without-kvm.ts';

/** The rules shown: the newest kernel's, those of before the gate, hardware's. */
const BEHAVIOURS = ['kvm', 'kvm-legacy', 'hardware'] as const;
const GATES = ['off', 'on'] as const;
/** Guests that run beside each other: one that fails waits, and the others need not wait for it. */
const LEAST_AT_ONCE = 4;

export interface DemoOptions {
  readonly verbose?: boolean;
  /** On a slow host guests that share it lose patience with each other. */
  readonly oneByOne?: boolean;
  readonly json?: boolean;
}

/** What `apiary demo --json` prints. APIC IDs and destinations are hexadecimal, as 0x123. */
export interface DemoResult {
  /** Why there are only the model's rows. */
  readonly withoutKvm?: WithoutKvm;
  /** Which rules this host's kernel follows, in a line. */
  readonly kernel?: string;
  readonly rows: readonly DemoRow[];
  /** Our guest under the kernel's rules beside the kernel's own; none without KVM. */
  readonly compared: readonly Compared[];
  readonly status: 0 | 1;
}

export interface DemoRow {
  readonly gate: (typeof GATES)[number];
  /** A behaviour, or `kernel`. */
  readonly rules: string;
  /** A guest on a machine, or the model alone. */
  readonly by: 'guest' | 'model';
  readonly sent: readonly Sent[];
  /** Whom the INIT and SIPI to the new ID started; absent if the guest did not report it. */
  readonly started?: readonly string[];
  /** Why the guest failed, and the last that it said. */
  readonly failed?: { readonly why: string; readonly lastLine: string };
  /** All that the guest printed; '' from the model. */
  readonly text: string;
}

export interface Sent {
  readonly to: string;
  /** Absent if the guest did not report it. */
  readonly took?: readonly string[];
  /** Absent where nobody tells: KVM's own APIC does not. */
  readonly path?: string;
}

export interface Compared {
  readonly gate: DemoRow['gate'];
  readonly rules: string;
  /** Lines of the kernel's report. */
  readonly lines: number;
  readonly equal: boolean;
  readonly differences: readonly { readonly kernel: string; readonly ours?: string }[];
}

export async function demo({ verbose = false, oneByOne = false, json = false }: DemoOptions): Promise<number> {
  const result = await measure(oneByOne ? 1 : Math.max(LEAST_AT_ONCE, availableParallelism()));
  if (json) return printJson(result);
  process.stdout.write(demoText(result, verbose));
  return result.status;
}

async function measure(atOnce: number): Promise<DemoResult> {
  const without = whyNoKvm();
  if (without !== undefined) return byModel(without);
  try {
    const { hostKernelRules } = await import('../conform/kernel-rules.ts');
    const host = await hostKernelRules();
    const rules = holds('gate', host.behaviour) && !host.lacking.includes('gate') ? 'kvm' : 'kvm-legacy';
    const guests = await runGuests(atOnce);
    const rows = guests.map(rowOf);
    const compared = GATES.map((gate) => compare(gate, rules, guests));
    const good = compared.every(({ equal }) => equal) && rows.every(({ failed }) => failed === undefined);
    return { kernel: host.text, rows, compared, status: good ? 0 : 1 };
  } catch (error) {
    const word = hostsWord(error);
    if (word === undefined || (error as Error).name !== 'AddonError') throw error;
    return byModel(word);
  }
}

interface Guest extends Pick<DemoRow, 'gate' | 'rules'> {
  readonly report: HotplugReport;
}

async function runGuests(atOnce: number): Promise<Guest[]> {
  const { runHotplugGuest } = await import('./hotplug-run.ts');
  const jobs = GATES.flatMap((gate): [Omit<Guest, 'report'>, MachineOptions][] => {
    const x2apicApi = { use32bitIds: gate === 'on' };
    return [
      ...BEHAVIOURS.map((behaviour): [Omit<Guest, 'report'>, MachineOptions] => [
        { gate, rules: behaviour },
        { behaviour, x2apicApi },
      ]),
      [
        { gate, rules: 'kernel' },
        { apic: 'kernel', x2apicApi },
      ],
    ];
  });
  const guests: Guest[] = [];
  let next = 0;
  const takeTurns = async (): Promise<void> => {
    for (let at = next++; at < jobs.length; at = next++) {
      const job = jobs[at];
      if (job !== undefined) guests[at] = { ...job[0], report: await runHotplugGuest(job[1]) };
    }
  };
  await Promise.all(Array.from({ length: atOnce }, takeTurns));
  return guests;
}

/** What the model alone can say: the same messages, without a guest. */
function byModel(withoutKvm: WithoutKvm): DemoResult {
  const rows = GATES.flatMap((gate) =>
    BEHAVIOURS.map((behaviour): DemoRow => {
      const { took, started } = hotplugRow({ behaviour, x2apicFormat: gate === 'on' });
      const sent = took.map(({ cpus, path }, index) => ({
        to: hex(DESTINATIONS[index] ?? 0),
        took: cpus.map((id) => hex(id)),
        path,
      }));
      return { gate, rules: behaviour, by: 'model', sent, started: started.map((id) => hex(id)), text: '' };
    }),
  );
  return { withoutKvm, rows, compared: [], status: 0 };
}

function rowOf({ gate, rules, report }: Guest): DemoRow {
  const { reason, detail, status } = report.result;
  const started = startedIn(report);
  const lastLine = report.text.trimEnd().split('\n').at(-1) ?? '';
  const good = reason === 'debug-exit' && status === 1;
  return {
    gate,
    rules,
    by: 'guest',
    sent: DESTINATIONS.map((to) => sentTo(to, report)),
    ...(started === undefined ? {} : { started }),
    ...(good ? {} : { failed: { why: detail ?? reason, lastLine } }),
    text: report.text,
  };
}

/** The interrupt that the boot CPU sends while the others are in xAPIC mode. */
function sentTo(to: number, { took, paths }: HotplugReport): Sent {
  const index = took.findIndex((each) => each.phase === 'xapic' && each.destination === `physical:${hex(to, 8)}`);
  const path = paths[index];
  return {
    to: hex(to),
    ...(index < 0 ? {} : { took: idsIn(took[index]?.cpus ?? '-') }),
    ...(path === undefined ? {} : { path }),
  };
}

/** Which CPUs the INIT and SIPI to the new ID started. */
function startedIn({ lines }: HotplugReport): string[] | undefined {
  const match = /started=(\d+) restarted=(\S+)/.exec(lines.find((line) => line.includes('started=')) ?? '');
  if (!match) return undefined;
  return [...(match[1] === '1' ? [hex(ADDED_CPU)] : []), ...idsIn(match[2] ?? '-')];
}

const idsIn = (list: string): string[] => (list === '-' ? [] : list.split(','));

/** Our rows of the kernel's rules against its own, over the whole report: every phase and destination, removal and return. */
function compare(gate: Guest['gate'], rules: string, guests: readonly Guest[]): Compared {
  const [ours = [], kernels = []] = [rules, 'kernel'].map(
    (each) => guests.find((guest) => guest.gate === gate && guest.rules === each)?.report.lines,
  );
  const differences = kernels.flatMap((kernel, index) => {
    const our = ours[index];
    return our === kernel ? [] : [{ kernel, ...(our === undefined ? {} : { ours: our }) }];
  });
  const equal = differences.length === 0 && kernels.length > 0 && ours.length === kernels.length;
  return { gate, rules, lines: kernels.length, equal, differences };
}
