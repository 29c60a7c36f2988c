/**
 * What the unit tests import from 'vitest', of the parts that it is made of: its runner and its expect, without the server, the
 * loader and the pool around them. For tests that are bundled (bundle.ts) and run in a thread of their own.
 */
import { ASYMMETRIC_MATCHERS_OBJECT, JestAsymmetricMatchers, JestChaiExpect, setState } from '@vitest/expect';
import { startTests, type Task, type VitestRunner } from '@vitest/runner';
import { getNames } from '@vitest/runner/utils';
import * as chai from 'chai';

export { afterAll, afterEach, beforeAll, beforeEach, describe, it, test } from '@vitest/runner';

chai.use(JestChaiExpect);
chai.use(JestAsymmetricMatchers);

const TEST_LIMIT_MILLIS = 30_000;

export const expect = Object.assign(
  (value: unknown, message?: string) => chai.expect(value, message),
  chai.expect,
  (globalThis as unknown as Record<symbol, object>)[ASYMMETRIC_MATCHERS_OBJECT],
);
setState({ assertionCalls: 0 }, expect as never);

/** What becomes of the tests, as they run. */
export interface Progress {
  began(name: string): void;
  failed(name: string, why: string): void;
}

/** Runs test files, one after the other. @param files what loads each, by its name */
export async function runTests(
  files: Readonly<Record<string, () => Promise<unknown>>>,
  { began, failed }: Progress,
): Promise<void> {
  const told = (task: Task): void => {
    if (task.result?.state !== 'fail') return;
    failed(getNames(task).slice(1).join(' > ') || task.name, task.result.errors?.[0]?.message ?? '');
  };
  const runner: VitestRunner = {
    config: {
      root: '/',
      setupFiles: [],
      passWithNoTests: false,
      sequence: { seed: 0, hooks: 'stack', setupFiles: 'list' },
      maxConcurrency: 1,
      testTimeout: TEST_LIMIT_MILLIS,
      hookTimeout: TEST_LIMIT_MILLIS,
      retry: 0,
    },
    importFile: (name) => files[name]?.(),
    onBeforeRunTask: (task) => began(getNames(task).slice(1).join(' > ')),
    onAfterRunTask: told,
    onAfterRunSuite: told,
  };
  for (const name of Object.keys(files)) for (const file of await startTests([name], runner)) told(file);
}
