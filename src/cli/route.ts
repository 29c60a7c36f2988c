/** `apiary route`: who takes a message, by which rules, and why the others do not. No KVM, no addon. Exit status 0. */
import { type Behaviour, DELIVERY_NAMES, KERNELS } from '../apic/index.ts';
import { parseRule } from '../conform/breaking.ts';
import { hex } from '../hex.ts';
import { route as ask, type RouteAnswer, type RouteQuestion } from '../route/route.ts';
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
    process.stdout.write(
      `${JSON.stringify({ question: { ...question, gate, broadcastQuirk }, answers: all }, null, 2)}\n`,
    );
    return 0;
  }
  print(wrapped(title(options)));
  const [only] = answers;
  if (options.behaviour !== undefined && only !== undefined) printOne(...only);
  else printAll(answers);
  return 0;
}

function title({ from, to, logical, mode, vector, gate, broadcastQuirk }: RouteCommandOptions): string {
  const sender = from === undefined ? 'a device (MSI)' : hex(from);
  const kind = `${logical === true ? 'logical' : 'physical'} ${hex(to)}`;
  const quirk = broadcastQuirk ? '' : ', broadcast quirk off';
  return `From ${sender} to ${kind}, ${DELIVERY_NAMES[mode]}, vector ${hex(vector)}; gate ${gate}${quirk}`;
}

function printOne(behaviour: Behaviour, { path, map, answer, cpus, note }: RouteAnswer): void {
  if (note !== undefined) print(wrapped(`Note: ${note}`));
  print(wrapped(`${behaviour}: ${byPath(path)} (${map}); ${answerText(answer)}`));
  const rows = cpus.map(({ apicId, mode, takes, why }) => [hex(apicId), mode, takes ? 'takes it' : '-', why]);
  print(table(['CPU', 'mode', '', 'why'], rows));
}

function printAll(answers: readonly (readonly [Behaviour, RouteAnswer])[]): void {
  for (const note of new Set(answers.map(([, each]) => each.note)))
    if (note !== undefined) print(wrapped(`Note: ${note}`));
  const [first] = answers;
  const rows = (first?.[1].cpus ?? []).map(({ apicId, mode }, i) => [
    hex(apicId),
    mode,
    ...answers.map(([, { cpus }]) => (cpus[i]?.takes === true ? 'takes' : '-')),
  ]);
  rows.push(['', '', ...answers.map(([, { path }]) => byPath(path))]);
  print(table(['CPU', 'mode', ...answers.map(([behaviour]) => behaviour)], rows));
  print('--behaviour NAME says why');
}

const byPath = (path: RouteAnswer['path']): string => (path === 'self' ? 'to itself' : `by ${path}`);

const answerText = (answer: number): string =>
  answer < 0 ? 'a scan met nobody (EPERM)' : answer === 0 ? 'nobody took it' : `taken by ${answer}`;

const print = (text: string): void => {
  process.stdout.write(`${text}\n`);
};
