/** The headline table: the questions of headline.ts asked of every judge, and laid out for people. */
import type { ApicSystemOptions } from '../apic/index.ts';
import { hex } from '../hex.ts';
import { describeGates } from './describe.ts';
import {
  canBeSent,
  DESTINATIONS,
  type HeadlineJudge,
  pathOf,
  type Question,
  SENDERS,
  TARGET_MODES,
} from './headline.ts';

export interface Disagreement {
  readonly question: Question;
  readonly answers: readonly (readonly [judge: string, takers: readonly number[]])[];
}

export interface HeadlineTable {
  readonly head: readonly string[];
  /** One for each setting of the gates. */
  readonly sections: readonly { readonly title: string; readonly rows: readonly (readonly string[])[] }[];
  /** How many questions every judge was asked. */
  readonly questions: number;
  readonly disagreements: readonly Disagreement[];
  /** What became of KVM's errata.rst, which says "the lowest vCPU ID": whom the last judge's APICs choose. */
  readonly alias: string;
}

/** The question that decides between KVM's documentation and its code: 0x23 and 0x123 share a byte, 0x123 came first. */
const ALIAS: Question = {
  x2apicFormat: true,
  broadcastQuirkDisabled: false,
  sender: 'MSI',
  targets: 'xAPIC',
  order: 'descending',
  destination: 0x23,
};

/** @param judges at least one: the first one fills the table, the others have to agree; @param model for the path: map or scan */
export async function headlineTable(
  judges: readonly HeadlineJudge[],
  model: ApicSystemOptions,
): Promise<HeadlineTable> {
  const disagreements: Disagreement[] = [];
  let questions = 0;
  const ask = async (question: Question): Promise<string> => {
    questions++;
    const answers: [string, readonly number[]][] = [];
    for (const judge of judges) answers.push([judge.name, await judge.takers(question)]);
    const texts = answers.map(([, takers]) => takersText(takers));
    if (new Set(texts).size > 1) disagreements.push({ question, answers });
    return `${texts[0]} ${pathOf(question, model)}`;
  };
  const cell = async (question: Omit<Question, 'order'>): Promise<string> => {
    if (!canBeSent(question)) return '-';
    const up = await ask({ ...question, order: 'ascending' });
    const down = await ask({ ...question, order: 'descending' });
    return up === down ? up : `${up}\n${down}*`;
  };
  const sections: { title: string; rows: string[][] }[] = [];
  for (const x2apicFormat of [false, true]) {
    for (const broadcastQuirkDisabled of [false, true]) {
      const rows: string[][] = [];
      for (const sender of SENDERS) {
        for (const targets of TARGET_MODES) {
          const row: string[] = [sender, targets];
          for (const destination of DESTINATIONS)
            row.push(await cell({ x2apicFormat, broadcastQuirkDisabled, sender, targets, destination }));
          rows.push(row);
        }
      }
      sections.push({ title: describeGates({ x2apicFormat, broadcastQuirkDisabled }), rows });
    }
  }
  const last = judges[judges.length - 1];
  const chosen = (await last.takers(ALIAS)).map((id) => hex(id)).join(', ');
  const alias = `${last.name}: with 32-bit IDs, 0x123 created before 0x23, both in xAPIC mode: ${chosen} takes 0x23`;
  const head = ['sender', 'targets', ...DESTINATIONS.map((id) => hex(id, 2))];
  return { head, sections, questions, disagreements, alias };
}

const takersText = (takers: readonly number[]): string =>
  takers.length === 0 ? 'nobody' : takers.map((id) => id.toString(16).padStart(2, '0')).join(' ');

/** What the table's cells mean. */
export const LEGEND = [
  'Each cell: the APIC IDs (hexadecimal) of those who took it, and whether the map or',
  'a scan found them. All targets are software-enabled: 00, 23, ff, 100, 123, 1ff,',
  'created in this order, or (second answer, with *, where it makes a difference) in',
  'the opposite one. The sender is 01, created first. parked: those over 0xff still',
  'in xAPIC mode, without a LDR, the others in x2APIC mode; mixed: the same with',
  'LDRs. -: this sender cannot address it.',
].join(' ');
