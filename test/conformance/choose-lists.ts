/**
 * Makes a recording small enough for the package. It shows every rule that the whole shows, and catches a model without one as
 * the whole does:
 *
 *     npx tsx test/conformance/choose-lists.ts WHOLE.jsonl.gz SMALL.jsonl.gz BYTES
 *
 * Takes first, again and again, the list that shows and catches most rules not met yet for its size, then those with most
 * operations for their size while there is room.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { type Behaviour, RULE_NAMES } from '../../src/apic/index.ts';
import { type RecordedCase, type Recording, readRecording, writeRecording } from '../../src/conform/recorded.ts';
import { replay } from '../../src/conform/replay.ts';

const [whole = '', small = '', bytes = ''] = process.argv.slice(2);
const { header, cases } = readRecording(readFileSync(whole));
const behaviour = header.behaviour as Behaviour;

const written = (chosen: readonly RecordedCase[]): Uint8Array => writeRecording({ header, cases: chosen });
/** Rules that these lists meet, and those without which a model differs from the kernel. */
const shows = (chosen: Recording['cases']): string[] => {
  const lists = { header, cases: chosen };
  const met = replay(lists, { behaviour }).coverage.entries.filter(([, count]) => count > 0);
  const caught = RULE_NAMES.filter((rule) => replay(lists, { behaviour, breakRules: [rule] }).failure !== undefined);
  return [...met.map(([name]) => name), ...caught.map((rule) => `without ${rule}`)];
};

const empty = written([]).length;
const lists = cases.map((list, at) => ({ list, at, shows: shows([list]), size: written([list]).length - empty }));
const left = new Set(lists);
const chosen = new Set<(typeof lists)[number]>();
const shown = new Set<string>();
const take = (each: (typeof lists)[number]): void => {
  left.delete(each);
  chosen.add(each);
  for (const name of each.shows) shown.add(name);
};
const inOrder = (): RecordedCase[] => [...chosen].toSorted((a, b) => a.at - b.at).map(({ list }) => list);

for (;;) {
  const worth = ({ shows, size }: (typeof lists)[number]): number =>
    shows.filter((name) => !shown.has(name)).length / size;
  const [best] = [...left].toSorted((a, b) => worth(b) - worth(a));
  if (best === undefined || worth(best) === 0) break;
  take(best);
}
const density = ({ list, size }: (typeof lists)[number]): number => list.candidate.operations.length / size;
for (const each of [...left].toSorted((a, b) => density(b) - density(a))) {
  take(each);
  if (written(inOrder()).length <= Number(bytes)) continue;
  chosen.delete(each);
  break;
}
writeFileSync(small, written(inOrder()));
const operations = inOrder().reduce((sum, { candidate }) => sum + candidate.operations.length, 0);
process.stdout.write(
  `${small}: ${operations} operations in ${chosen.size} lists, ${shown.size} of ${shows(cases).length}, ${written(inOrder()).length} bytes\n`,
);
