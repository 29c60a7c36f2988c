/**
 * Runs the scenarios of `apiary explore`, two preemptions each, until one is broken; says which and why. Status 1 then. With
 * arguments: only scenarios whose names begin with one of them.
 */
import { SCENARIOS, Search } from '../../src/explore/index.ts';

const PREEMPTIONS = 2;
const prefixes = process.argv.slice(2);

for (const scenario of SCENARIOS) {
  if (prefixes.length > 0 && !prefixes.some((prefix) => scenario.name.startsWith(prefix))) continue;
  const { finding } = new Search(scenario, { preemptions: PREEMPTIONS, memory: 'tso', shorten: 0 }).run();
  if (finding === undefined) continue;
  const how = `${finding.preemptions} preemption(s)${finding.memory === 'tso' ? ' and a store buffer' : ''}`;
  process.stdout.write(`${scenario.name}: ${finding.why}; ${how}\n`);
  process.exit(1);
}
