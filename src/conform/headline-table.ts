/** The headline table: the questions of headline.ts asked of every judge, and laid out for people. */
import type { ApicSystemOptions } from '../apic/index.ts';
import { hex } from '../hex.ts';
import {
  allQuestions,
  canBeSent,
  DESTINATIONS,
  type HeadlineJudge,
  ORDERS,
  pathOf,
  type Question,
  SENDERS,
  TARGET_MODES,
} from './headline.ts';
import type { Gates } from './spec.ts';

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
  const cells = new Map<string, string>();
  const disagreements: Disagreement[] = [];
  const questions = allQuestions();
  let alias = '';
  // By order of creation: a judge under a guest boots one for each rig.
  for (const question of questions.toSorted(byRig)) {
    const answers: [string, readonly number[]][] = [];
    for (const judge of judges) answers.push([judge.name, await judge.takers(question)]);
    const texts = answers.map(([, takers]) => takersText(takers));
    if (new Set(texts).size > 1) disagreements.push({ question, answers });
    cells.set(keyOf(question), `${texts[0]} ${pathOf(question, model)}`);
    if (keyOf(question) !== keyOf(ALIAS)) continue;
    const [name, takers] = answers[answers.length - 1];
    const chosen = takers.map((id) => hex(id)).join(', ');
    alias = `${name}: with 32-bit IDs, 0x123 created before 0x23, both in xAPIC mode: ${chosen} takes 0x23`;
  }
  return { head: headOf(), sections: sectionsOf(cells), questions: questions.length, disagreements, alias };
}

const byRig = (a: Question, b: Question): number =>
  Number(a.x2apicFormat) - Number(b.x2apicFormat) ||
  Number(a.broadcastQuirkDisabled) - Number(b.broadcastQuirkDisabled) ||
  ORDERS.indexOf(a.order) - ORDERS.indexOf(b.order);

const keyOf = ({ x2apicFormat, broadcastQuirkDisabled, sender, targets, order, destination }: Question): string =>
  [x2apicFormat, broadcastQuirkDisabled, sender, targets, order, destination].join();

const takersText = (takers: readonly number[]): string =>
  takers.length === 0 ? 'nobody' : takers.map((id) => id.toString(16).padStart(2, '0')).join(' ');

const headOf = (): string[] => ['sender', 'targets', ...DESTINATIONS.map((id) => hex(id, 2))];

function sectionsOf(cells: ReadonlyMap<string, string>): HeadlineTable['sections'] {
  const onOff = (on: boolean): string => (on ? 'on' : 'off');
  return [false, true].flatMap((x2apicFormat) =>
    [false, true].map((broadcastQuirkDisabled) => {
      const title = `32-bit IDs ${onOff(x2apicFormat)}, broadcast quirk ${onOff(!broadcastQuirkDisabled)}`;
      return { title, rows: rowsOf(cells, { x2apicFormat, broadcastQuirkDisabled }) };
    }),
  );
}

function rowsOf(cells: ReadonlyMap<string, string>, gates: Gates): string[][] {
  return SENDERS.flatMap((sender) =>
    TARGET_MODES.map((targets) => {
      const row = DESTINATIONS.map((destination) => {
        const question = { ...gates, sender, targets, destination };
        if (!canBeSent({ ...question, order: 'ascending' })) return '-';
        const [up, down] = ORDERS.map((order) => cells.get(keyOf({ ...question, order })) ?? '');
        return up === down ? `${up}` : `${up}\n${down}*`;
      });
      return [sender, targets, ...row];
    }),
  );
}

/** What the table's cells mean. */
export const LEGEND = [
  'Each cell: the APIC IDs (hexadecimal) of those who took it, and whether the map or',
  'a scan found them. All targets are software-enabled: 00, 23, ff, 100, 123, 1ff,',
  'created in this order, or (second answer, with *, where it makes a difference) in',
  'the opposite one. The sender is 01, created first. parked: those over 0xff still',
  'in xAPIC mode, without a LDR, the others in x2APIC mode; mixed: the same with',
  'LDRs. -: this sender cannot address it.',
].join(' ');
