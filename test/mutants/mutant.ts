/**
 * A mutant: one small edit of the source, after which the program is wrong and something must say so. main.ts runs lists of
 * them.
 */
export interface Mutant {
  /** What is broken, in a few words. */
  readonly name: string;
  /** From the repository's root. */
  readonly file: string;
  /** Occurs in the file just once; or at or after `line`. */
  readonly find: string;
  readonly replace: string;
  /** 1-based, for text that occurs more than once. */
  readonly line?: number;
  /** Why nothing can tell: no promise is broken, nothing that a guest or a user sees changes. Such a mutant is run and told, but not counted. */
  readonly equivalent?: string;
}

export interface MutantList {
  readonly name: string;
  readonly mutants: readonly Mutant[];
  /** The scenarios that are explored: what their names begin with. */
  readonly scenarios?: readonly string[];
  /** Unit test files, after the scenarios: those that use the changed file. They load nothing that was built. */
  readonly tests?: readonly string[];
}

/** @returns `source` with the mutant's edit @throws Error when the text is not there, or in more places than one */
export function mutate(source: string, { name, find, replace, line }: Mutant): string {
  const at = source.indexOf(find, line === undefined ? 0 : lineStart(source, line));
  if (at < 0) throw new Error(`mutant '${name}': its text is not in the file any more`);
  if (line === undefined && source.indexOf(find, at + 1) >= 0) {
    throw new Error(`mutant '${name}': its text occurs more than once; give a line`);
  }
  return source.slice(0, at) + replace + source.slice(at + find.length);
}

function lineStart(source: string, line: number): number {
  let at = 0;
  for (let passed = 1; passed < line; passed++) at = source.indexOf('\n', at) + 1;
  return at;
}

/** @returns unit test files by their names in one area (a folder of test/unit) */
export const unitTests = (area: string, ...names: readonly string[]): string[] =>
  names.map((name) => `test/unit/${area}/${name}.test.ts`);
