/**
 * Judges the code that it is bundled with by the scenarios of `apiary explore`, two preemptions each: those whose names begin as
 * one that `workerData` names. Anything but a broken promise is no verdict: it throws.
 */
import { workerData } from 'node:worker_threads';
import { SCENARIOS, Search } from '../../src/explore/index.ts';
import { say, wrong } from './thread.ts';

const PREEMPTIONS = 2;
/** What an edit makes that is no program. A compiler would have refused it. */
const NO_PROGRAM = /threw: .*(is not defined|before initialization|is not a function|of undefined)/;

const prefixes = workerData as readonly string[];

for (const scenario of SCENARIOS.filter(({ name }) => prefixes.some((prefix) => name.startsWith(prefix)))) {
  say({ at: scenario.name });
  const { finding } = new Search(scenario, { preemptions: PREEMPTIONS, memory: 'tso', shorten: 0 }).run();
  if (finding === undefined) continue;
  if (NO_PROGRAM.test(finding.why)) throw new Error(finding.why);
  const buffer = finding.memory === 'tso' ? ' and a store buffer' : '';
  wrong(`${scenario.name}: ${finding.why}; ${finding.preemptions} preemption(s)${buffer}`);
}
say({ done: true });
