/**
 * A mutant: one small edit of the source, after which the program is wrong and some test must say so. Lists of them are
 * beside this file; main.ts runs them.
 */
export interface Mutant {
  /** What is broken, in a few words. */
  readonly name: string;
  /** From the repository's root. */
  readonly file: string;
  /** Occurs in the file just once, or as the `line` says. */
  readonly find: string;
  readonly replace: string;
  /** 1-based, for text that occurs more than once: the line that `find` begins on. */
  readonly line?: number;
  /** Why no test can tell: nothing that a guest or a user sees changes. Such a mutant is not counted. */
  readonly equivalent?: string;
}

export interface MutantList {
  readonly name: string;
  /** Must fail on every mutant, run at the root of a copy of the repository. */
  readonly command: readonly string[];
  readonly mutants: readonly Mutant[];
}

/** @returns `source` with the mutant's edit @throws Error when the text is not there, or not where it is said to be */
export function mutate(source: string, { name, find, replace, line }: Mutant): string {
  const from = line === undefined ? 0 : lineStart(source, line);
  const at = source.indexOf(find, from);
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
