/**
 * Judges: told of a mutant, one says what notices it. It may be told of several at once: each is tried in a thread of its own.
 */
import { basename, dirname } from 'node:path';
import { type Built, Bundle, imported } from './bundle.ts';
import type { Mutant } from './mutant.ts';
import { tryOut, type Verdict } from './trial.ts';

/** What noticed; undefined: nothing did. `undecided`: the judge came to no end, or broke. */
export interface Judgement {
  readonly killedBy?: string;
  readonly undecided?: string;
}

export interface Judge {
  judge(mutant: Mutant): Promise<Judgement>;
  dispose(): Promise<void>;
}

/** Times the longest silence without a mutant; and at least: a busy host. */
const PATIENCE = 10;
const LEAST_PATIENCE_MILLIS = 2000;
/** For a judge whom impatience only keeps from a judgement. */
const LONG_PATIENCE_MILLIS = 90_000;
const FIRST_PATIENCE_MILLIS = 120_000;

/**
 * A judge that runs a script. @throws Error where something is wrong without a mutant
 * @param told what the script is told, of a mutant or of none, once it is known what it is made of
 */
async function makeJudge(
  script: string,
  told: (inputs: Built['inputs']) => (mutant?: Mutant) => unknown,
  judgement: (verdict: Verdict) => Judgement,
  leastPatienceMillis: number,
): Promise<Judge> {
  const bundle = await Bundle.of(script);
  const { code, inputs } = await bundle.build();
  const toldOf = told(inputs);
  const { how, what, silenceMillis } = await tryOut(code, toldOf(), FIRST_PATIENCE_MILLIS);
  if (how !== 'nothing wrong') throw new Error(`without a mutant: ${how}: ${what}`);
  const patienceMillis = Math.max(leastPatienceMillis, PATIENCE * silenceMillis);
  return {
    judge: async (mutant) => {
      const mutated = await bundle.build(mutant);
      const verdict = await tryOut(mutated.code, toldOf(mutant), patienceMillis);
      return verdict.how === 'nothing wrong' ? {} : judgement(verdict);
    },
    dispose: () => bundle.dispose(),
  };
}

/**
 * Unit tests. A test that hangs, or ends its thread, has failed.
 * @param files from the repository's root
 */
export function byTests(files: readonly string[]): Promise<Judge> {
  const loaders = files.map((file) => `${JSON.stringify(file)}: () => import('./${file}')`);
  return makeJudge(
    `import { judgeByTests } from './test/mutants/judge-tests.ts';\nvoid judgeByTests({ ${loaders.join(', ')} });`,
    (inputs) => {
      const users = new Map(files.map((file) => [file, imported(inputs, file)]));
      return (mutant) => (mutant === undefined ? files : testsOf(mutant.file, users));
    },
    ({ how, what }) => ({ killedBy: how === 'wrong' ? what : `${how}: ${what}` }),
    LEAST_PATIENCE_MILLIS,
  );
}

/** Those that use the file and are of its area, the one that is named after it first. @param users what each test imports */
function testsOf(file: string, users: ReadonlyMap<string, ReadonlySet<string>>): string[] {
  const area = `test/unit/${file.split('/')[1]}`;
  const tests = [...users.keys()].filter((test) => dirname(test) === area && users.get(test)?.has(file));
  const isNamesake = (test: string): boolean => basename(test) === basename(file).replace('.ts', '.test.ts');
  return tests.sort((a, b) => Number(isNamesake(b)) - Number(isNamesake(a)));
}

/** Schedules. Only a promise that one of them breaks kills. @param prefixes of the scenarios' names */
export function bySchedules(prefixes: readonly string[]): Promise<Judge> {
  return makeJudge(
    `import './test/mutants/judge-schedules.ts';`,
    () => () => prefixes,
    ({ how, what }) => (how === 'wrong' ? { killedBy: what } : { undecided: `${how}: ${what}` }),
    LONG_PATIENCE_MILLIS,
  );
}

/** One after the other, until one notices. */
export function inTurn(judges: readonly Judge[]): Judge {
  return {
    judge: async (mutant) => {
      let undecided: string | undefined;
      for (const judge of judges) {
        const judgement = await judge.judge(mutant);
        if (judgement.killedBy !== undefined) return judgement;
        undecided ??= judgement.undecided;
      }
      return undecided === undefined ? {} : { undecided };
    },
    dispose: async () => {
      for (const judge of judges) await judge.dispose();
    },
  };
}
