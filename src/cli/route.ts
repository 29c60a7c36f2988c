/** `apiary route`: who takes a message, by which rules, and why the others do not. No KVM, no addon. Exit status 0. */
import { type Behaviour, DELIVERY, DELIVERY_NAMES, KERNELS } from '../apic/index.ts';
import { parseRule } from '../conform/breaking.ts';
import { hex } from '../hex.ts';
import { route as ask, type RouteAnswer, type RoutedCpu, type RouteQuestion } from '../route/route.ts';
import { printJson } from './json.ts';
import type { RouteCommandOptions } from './route-options.ts';
import { table, wrapped } from './table.ts';

/** Each once: `kvm` and `kvm-legacy` are names for two of them. */
const SIDE_BY_SIDE: readonly Behaviour[] = [...KERNELS.map((kernel) => `kvm@${kernel}` as const), 'hardware'];

export async function route(options: RouteCommandOptions): Promise<number> {
  const { cpus, from, to, logical = false, mode, vector, gate, broadcastQuirk } = options;
  const question: RouteQuestion = { cpus, from, to, logical, deliveryMode: mode, vector };
  const breakRules = options.break === undefined ? [] : [parseRule(options.break)];
  const gates = { x2apicFormat: gate === 'on', broadcastQuirkDisabled: !broadcastQuirk, breakRules };
  const behaviours = options.behaviour === undefined ? SIDE_BY_SIDE : [options.behaviour];
  const answers = behaviours.map((behaviour) => [behaviour, ask(question, { ...gates, behaviour })] as const);
  if (options.json === true) {
    const all = answers.map(([behaviour, answer]) => ({ behaviour, gate, ...answer }));
    return printJson({ question: { ...question, gate, broadcastQuirk }, answers: all, status: 0 });
  }
  print(wrapped(title(options)));
  const [only] = answers;
  const withPpr = mode === DELIVERY.LOWEST;
  if (options.behaviour !== undefined && only !== undefined) printOne(...only, withPpr);
  else printAll(answers, withPpr);
  return 0;
}

function title({ from, to, logical, mode, vector, gate, broadcastQuirk }: RouteCommandOptions): string {
  const sender = from === undefined ? 'a device (MSI)' : hex(from);
  const kind = `${logical === true ? 'logical' : 'physical'} ${hex(to)}`;
  const quirk = broadcastQuirk ? '' : ', broadcast quirk off';
  return `From ${sender} to ${kind}, ${DELIVERY_NAMES[mode]}, vector ${hex(vector)}; gate ${gate}${quirk}`;
}

function printOne(behaviour: Behaviour, { path, map, answer, cpus, note }: RouteAnswer, withPpr: boolean): void {
  if (note !== undefined) print(wrapped(`Note: ${note}`));
  print(wrapped(`${behaviour}: ${byPath(path)} (${map}); ${answerText(answer)}`));
  const rows = cpus.map((cpu) => [...described(cpu, withPpr), cpu.takes ? 'takes it' : '-', cpu.why]);
  print(table([...heads(withPpr), '', 'why'], rows));
}

/** What tells the CPUs apart; who of them has the lowest priority matters only where that is asked for. */
const heads = (withPpr: boolean): string[] => ['CPU', 'mode', ...(withPpr ? ['PPR'] : [])];
const described = ({ apicId, mode, ppr }: RoutedCpu, withPpr: boolean): string[] => [
  hex(apicId),
  mode,
  ...(withPpr ? [hex(ppr)] : []),
];

function printAll(answers: readonly (readonly [Behaviour, RouteAnswer])[], withPpr: boolean): void {
  for (const note of new Set(answers.map(([, each]) => each.note)))
    if (note !== undefined) print(wrapped(`Note: ${note}`));
  const [first] = answers;
  const rows = (first?.[1].cpus ?? []).map((cpu, i) => [
    ...described(cpu, withPpr),
    ...answers.map(([, { cpus }]) => (cpus[i]?.takes === true ? 'takes' : '-')),
  ]);
  rows.push([...heads(withPpr).map(() => ''), ...answers.map(([, { path }]) => byPath(path))]);
  print(table([...heads(withPpr), ...answers.map(([behaviour]) => behaviour)], rows));
  print('--behaviour NAME says why');
}

const byPath = (path: RouteAnswer['path']): string => (path === 'self' ? 'to itself' : `by ${path}`);

const answerText = (answer: number): string =>
  answer < 0 ? 'a scan met nobody (EPERM)' : answer === 0 ? 'nobody took it' : `taken by ${answer}`;

const print = (text: string): void => {
  process.stdout.write(`${text}\n`);
};
