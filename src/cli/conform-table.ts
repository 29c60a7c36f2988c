/** `apiary conform --table`: who takes what, on the model, and with the rules intact on the kernel and on our monitor as well. */
import pc from 'picocolors';
import type { ApicSystemOptions, RuleName } from '../apic/index.ts';
import { type HeadlineJudge, kernelHeadline, modelHeadline, monitorHeadline } from '../conform/headline.ts';
import { headlineTable, LEGEND } from '../conform/headline-table.ts';
import type { KernelRules } from '../conform/kernel-rules.ts';
import { hex } from '../hex.ts';
import { printJson } from './json.ts';
import { table, wrapped } from './table.ts';
import { hostsWord, wordsOf } from './without-kvm.ts';

const MAX_DISAGREEMENTS = 20;

export interface HeadlineOptions {
  readonly rules: Pick<KernelRules, 'behaviour' | 'lacking'>;
  /** `rules` were asked for, and need not be this host's. */
  readonly chosen: boolean;
  readonly broken: RuleName | undefined;
  readonly json: boolean;
}

/** @returns the exit status: 1 if the judges differ */
export async function showHeadline({ rules, chosen, broken, json }: HeadlineOptions): Promise<number> {
  const { behaviour, lacking } = rules;
  const options = { behaviour, breakRules: broken === undefined ? lacking : [...lacking, broken] };
  const judges: HeadlineJudge[] = [];
  let model: ApicSystemOptions = options;
  let note = '';
  try {
    // Loaded when it is asked for: the model answers without the addon.
    const { probeHost } = await import('../conform/host.ts');
    model = { ...probeHost(), ...options };
    judges.push(modelHeadline(model), await monitorHeadline(model));
    if (!chosen || behaviour === 'kvm') judges.push(await kernelHeadline());
    else note = `The kernel's APICs were not asked: behaviour ${behaviour} is not theirs.`;
  } catch (error) {
    const word = hostsWord(error);
    if (word === undefined) throw error;
    for (const judge of judges.splice(0)) judge.close();
    judges.push(modelHeadline(model));
    note = `Only the model was asked. ${wordsOf(word)}`;
  }
  try {
    const found = await headlineTable(judges, model);
    const names = judges.map(({ name }) => name);
    const status = found.disagreements.length === 0 ? 0 : 1;
    if (json) return printJson({ ...found, judges: names, note, status });
    print(headlineText(found, names, note));
    return status;
  } finally {
    for (const judge of judges) judge.close();
  }
}

function headlineText(
  { head, sections, questions, disagreements, alias }: Awaited<ReturnType<typeof headlineTable>>,
  names: readonly string[],
  note: string,
): string {
  const parts = sections.flatMap(({ title, rows }) => [title, table(head, rows)]);
  parts.push(wrapped(LEGEND), wrapped(alias));
  if (note !== '') parts.push(wrapped(note));
  for (const { question, answers } of disagreements.slice(0, MAX_DISAGREEMENTS)) {
    const said = answers.map(([name, takers]) => `${name}: ${takers.map((id) => hex(id)).join(' ') || 'nobody'}`);
    parts.push(pc.red(`different: ${JSON.stringify(question)}: ${said.join('; ')}`));
  }
  const verdict = disagreements.length === 0 ? 'equal' : `${disagreements.length} different`;
  parts.push(`${questions} questions to ${names.join(', ')}: ${verdict}`);
  return parts.join('\n');
}

const print = (text: string): void => {
  process.stdout.write(`${text}\n`);
};
