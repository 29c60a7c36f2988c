/** Judges the code that it is bundled with by its unit tests: those that `workerData` names, in that order, up to the first that fails. */
import { workerData } from 'node:worker_threads';
import { say, wrong } from './thread.ts';
import { runTests } from './vitest.ts';

type Load = () => Promise<unknown>;

/** @param all what loads each test file, by its name */
export async function judgeByTests(all: Readonly<Record<string, Load>>): Promise<void> {
  const names = workerData as readonly string[];
  await runTests(Object.fromEntries(names.map((name) => [name, all[name] as Load])), {
    began: (name) => say({ at: name }),
    failed: (name, why) => wrong(`${name}: ${why.split('\n')[0]}`),
  });
  say({ done: true });
}
