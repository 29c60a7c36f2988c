/**
 * `npm run mutants`: makes each mutant in memory and asks whether its list's tests, or schedules, notice. Nothing is written.
 *
 *     npm run mutants [-- --list NAME]... [--mutant TEXT] [--seed N] [--jobs N] [--verbose]
 *
 * Without --list: those that unit tests kill. --seed chooses other ones among all of the run loop. Status 0: of the mutants that change behaviour, at least nine of ten died; 1: fewer;
 * 2: nothing to run.
 */
import { parseArgs } from 'node:util';
import { bySchedules, byTests, inTurn, type Judge, type Judgement } from './judge.ts';
import { listsByDefault, PROTOCOLS } from './lists.ts';
import { SEED } from './loop.ts';
import type { Mutant, MutantList } from './mutant.ts';

const BAR = 0.9;

const say = (line: string): boolean => process.stdout.write(`${line}\n`);

const { values: wanted } = parseArgs({
  options: {
    list: { type: 'string', multiple: true },
    mutant: { type: 'string', default: '' },
    seed: { type: 'string', default: String(SEED) },
    jobs: { type: 'string', default: '2' },
    verbose: { type: 'boolean', default: false },
  },
});

const byDefault = listsByDefault(Number(wanted.seed));

interface Outcome extends Judgement {
  readonly mutant: Mutant;
}

async function judgeOf({ tests, scenarios }: MutantList): Promise<Judge> {
  return inTurn([
    ...(scenarios === undefined ? [] : [await bySchedules(scenarios)]),
    ...(tests === undefined ? [] : [await byTests(tests)]),
  ]);
}

async function runList(list: MutantList, mutants: readonly Mutant[]): Promise<Outcome[]> {
  const began = performance.now();
  const outcomes: Outcome[] = [];
  const waiting = mutants.entries();
  const judge = await judgeOf(list);
  const work = async (): Promise<void> => {
    for (const [index, mutant] of waiting) {
      const outcome = { mutant, ...(await judge.judge(mutant)) };
      outcomes[index] = outcome;
      if (wanted.verbose) tell(outcome);
    }
  };
  await Promise.all(Array.from({ length: Number(wanted.jobs) }, work));
  await judge.dispose();
  const died = outcomes.filter(isCounted).filter(isDead).length;
  const counted = outcomes.filter(isCounted).length;
  const seconds = Math.round((performance.now() - began) / 1000);
  say(
    `${list.name}: ${died} of ${counted} mutants die, in ${seconds} s; ${outcomes.length - counted} more change nothing`,
  );
  return outcomes;
}

const isCounted = ({ mutant }: Outcome): boolean => mutant.equivalent === undefined;
const isDead = ({ killedBy }: Outcome): boolean => killedBy !== undefined;

function tell({ mutant, killedBy, undecided }: Outcome): void {
  const what = killedBy ?? undecided ?? mutant.equivalent ?? '';
  say(`${killedBy === undefined ? 'lives' : 'dies '}  ${mutant.name}\n         ${what}`);
}

const lists =
  wanted.list === undefined
    ? byDefault
    : [...byDefault, ...PROTOCOLS].filter(({ name }) => wanted.list?.includes(name));
const outcomes: Outcome[] = [];
for (const list of lists) {
  const mutants = list.mutants.filter(({ name }) => name.includes(wanted.mutant));
  if (mutants.length > 0) outcomes.push(...(await runList(list, mutants)));
}
for (const outcome of outcomes) {
  const { mutant, killedBy, undecided } = outcome;
  if (isCounted(outcome) && !isDead(outcome))
    say(`lives: ${mutant.name}${undecided === undefined ? '' : `\n  ${undecided}`}`);
  if (!isCounted(outcome) && isDead(outcome)) {
    say(`dies, though it is said to change nothing: ${mutant.name}\n  ${killedBy}`);
  }
}
const counted = outcomes.filter(isCounted);
if (counted.length === 0) process.exit(2);
process.exit(counted.filter(isDead).length >= BAR * counted.length ? 0 : 1);
