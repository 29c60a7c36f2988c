/**
 * The headline cases, by hand: each on the model, on the kernel's APICs and on our
 * monitor; then every cell of `apiary conform --table`, equal on all three.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type HeadlineJudge,
  kernelHeadline,
  modelHeadline,
  monitorHeadline,
  type Order,
  type Question,
  type Sender,
  type TargetMode,
} from '../../src/conform/headline.ts';
import { headlineTable } from '../../src/conform/headline-table.ts';
import { probeHost } from '../../src/conform/host.ts';
import { whyNoKvm } from './campaign.ts';

interface Row {
  readonly says: string;
  readonly gate: boolean;
  readonly quirk: boolean;
  readonly sender: Sender;
  readonly targets: TargetMode;
  readonly order?: Order;
  readonly destination: number;
  readonly takers: readonly number[];
}

const on = { gate: true, quirk: true } as const;
const off = { gate: false, quirk: true } as const;
const EVERYONE = [0x00, 0x23, 0xff, 0x100, 0x123, 0x1ff];
/** The sender, 01, takes its own broadcast. */
const XAPIC_AND_255 = [0xff, 0x100, 0x123, 0x1ff];

const ROWS: readonly Row[] = [
  { says: 'only the mapped one', ...on, sender: 'x2APIC IPI', targets: 'x2APIC', destination: 0xff, takers: [0xff] },
  {
    says: 'only the mapped one: 511 in xAPIC mode, created first',
    ...{ ...on, sender: 'x2APIC IPI', targets: 'xAPIC', order: 'descending', destination: 0xff, takers: [0x1ff] },
  },
  {
    says: 'no quirk, all x2APIC: only the mapped one',
    ...{ ...on, quirk: false, sender: 'x2APIC IPI', targets: 'x2APIC', destination: 0xff, takers: [0xff] },
  },
  {
    says: 'no quirk, mixed logical modes: every xAPIC-mode APIC and ID 255',
    ...{ ...on, quirk: false, sender: 'x2APIC IPI', targets: 'mixed', destination: 0xff, takers: XAPIC_AND_255 },
  },
  { says: 'no alias: ID 255', ...off, sender: 'x2APIC IPI', targets: 'x2APIC', destination: 0xff, takers: [0xff] },
  {
    says: 'an alias of a parked CPU: every xAPIC-mode APIC and ID 255',
    ...{ ...off, sender: 'x2APIC IPI', targets: 'parked', destination: 0xff, takers: XAPIC_AND_255 },
  },
  {
    says: 'an alias of a parked CPU, no quirk: the same',
    ...{ ...off, quirk: false, sender: 'x2APIC IPI', targets: 'parked', destination: 0xff, takers: XAPIC_AND_255 },
  },
  ...[on, off].map(
    (gates): Row => ({
      says: 'every xAPIC-mode APIC and ID 255',
      ...{ ...gates, sender: 'xAPIC IPI', targets: 'mixed', destination: 0xff, takers: [1, ...XAPIC_AND_255] },
    }),
  ),
  ...[on, off].flatMap((gates) =>
    (['xAPIC', 'x2APIC', 'parked', 'mixed'] as const).map(
      (targets): Row => ({ says: 'everyone', ...gates, sender: 'MSI', targets, destination: 0xff, takers: EVERYONE }),
    ),
  ),
  ...[on, off].map(
    (gates): Row => ({
      says: 'no quirk, all x2APIC: unicast to ID 255',
      ...{ ...gates, quirk: false, sender: 'MSI', targets: 'x2APIC', destination: 0xff, takers: [0xff] },
    }),
  ),
  // The same exercise for the others: this is the gate.
  { says: 'vCPU 0 and 256', ...off, sender: 'x2APIC IPI', targets: 'parked', destination: 0, takers: [0, 0x100] },
  { says: 'only the first', ...on, sender: 'x2APIC IPI', targets: 'parked', destination: 0, takers: [0] },
  { says: 'both', ...off, sender: 'xAPIC IPI', targets: 'xAPIC', destination: 0x23, takers: [0x23, 0x123] },
  { says: 'the first created', ...on, sender: 'xAPIC IPI', targets: 'xAPIC', destination: 0x23, takers: [0x23] },
  {
    says: 'the first created, not the lowest ID as errata.rst has it',
    ...{ ...on, sender: 'xAPIC IPI', targets: 'xAPIC', order: 'descending', destination: 0x23, takers: [0x123] },
  },
  {
    says: 'the parked CPU by its wide ID',
    ...on,
    sender: 'x2APIC IPI',
    targets: 'parked',
    destination: 0x123,
    takers: [0x123],
  },
  {
    says: 'the parked CPU by its wide ID: without the gate by scan',
    ...{ ...off, sender: 'x2APIC IPI', targets: 'parked', destination: 0x1ff, takers: [0x1ff] },
  },
];

const asQuestion = ({ gate, quirk, sender, targets, order = 'ascending', destination }: Row): Question => ({
  x2apicFormat: gate,
  broadcastQuirkDisabled: !quirk,
  sender,
  targets,
  order,
  destination,
});

const nameOf = (row: Row): string =>
  `0x${row.destination.toString(16)} by ${row.sender}, gate ${row.gate ? 'on' : 'off'}, quirk ${row.quirk ? 'on' : 'off'}, targets ${row.targets}: ${row.says}`;
const named = ROWS.map((row) => [nameOf(row), row] as const);

describe('on the model', () => {
  it.each(named)('%s', async (_, row) => {
    expect(await modelHeadline({}).takers(asQuestion(row))).toEqual(row.takers);
  });
});

const why = whyNoKvm();
describe.skipIf(why !== undefined)(`with KVM${why === undefined ? '' : ` (skipped: ${why})`}`, () => {
  describe.each([
    ['the kernel', kernelHeadline],
    ['our monitor', () => monitorHeadline(probeHost())],
  ] as const)('on %s', (_, make) => {
    let judge: HeadlineJudge;
    beforeAll(async () => {
      judge = await make();
    });
    afterAll(() => judge.close());
    it.each(named)('%s', async (__, row) => {
      expect(await judge.takers(asQuestion(row))).toEqual(row.takers);
    });
  });

  it('every cell of the table is the same on the model, our monitor and the kernel', async () => {
    const model = probeHost();
    const judges = [modelHeadline(model), await monitorHeadline(model), await kernelHeadline()];
    const { disagreements, questions, sections } = await headlineTable(judges, model);
    for (const judge of judges) judge.close();
    expect(disagreements).toEqual([]);
    expect(questions).toBeGreaterThan(300);
    expect(sections.flatMap(({ rows }) => rows)).toHaveLength(48);
  }, 60_000);
});
