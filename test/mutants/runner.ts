/**
 * One Vitest that stays: told which file changed, it runs the tests again, with what depends on the file loaded anew. A child
 * process of main.ts, which ends it when a mutant hangs.
 */
import { createVitest } from 'vitest/node';

export interface RunRequest {
  /** Absolute paths of files that changed since the last run. */
  readonly changed: readonly string[];
}

export interface RunAnswer {
  readonly passed: boolean;
  /** The first test that failed. */
  readonly failure: string;
}

const [root, ...tests] = process.argv.slice(2);
const vitest = await createVitest(
  'test',
  {
    root,
    config: false,
    include: tests,
    watch: true,
    // One thread, kept from run to run: a mutant costs what its tests cost.
    pool: 'threads',
    poolOptions: { threads: { isolate: false, singleThread: true } },
    fileParallelism: false,
    bail: 1,
    reporters: [{}],
  },
  { server: { watch: null } },
);
const specifications = await vitest.globTestSpecifications();

process.on('message', async ({ changed }: RunRequest) => {
  for (const file of changed) vitest.invalidateFile(file);
  const { testModules, unhandledErrors } = await vitest.runTestSpecifications(specifications);
  const failed = testModules.flatMap((module) =>
    [...module.children.allTests('failed')].map(({ fullName }) => fullName),
  );
  const broken = testModules.flatMap((module) => module.errors().map(({ message }) => message));
  const failures = [...failed, ...broken, ...unhandledErrors.map(String)];
  const passed = failures.length === 0 && testModules.length > 0;
  process.send?.({ passed, failure: failures[0] ?? 'no tests' } satisfies RunAnswer);
});
process.send?.('ready');
