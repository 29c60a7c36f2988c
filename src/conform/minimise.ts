/**
 * The last part of shrinking. fast-check shrinks the choices that a case is made of; this shortens the case itself, in ways that
 * no choice can express: it drops operations, CPUs and registers as long as the case still fails.
 */

/**
 * @param shorter shorter variants of a case, the most promising first
 * @param deadline in milliseconds of Date.now(): when to be content with what there is
 */
export async function minimise<Case>(
  start: Case,
  shorter: (candidate: Case) => Iterable<Case>,
  fails: (candidate: Case) => Promise<boolean>,
  deadline: number,
): Promise<Case> {
  let best = start;
  for (let found: Case | undefined = start; found !== undefined; ) {
    best = found;
    found = undefined;
    for (const candidate of shorter(best)) {
      if (Date.now() > deadline) return best;
      if (await fails(candidate)) {
        found = candidate;
        break;
      }
    }
  }
  return best;
}

/** Halves, quarters, ... from the end, then single elements. */
export function* shorterLists<T>(list: readonly T[]): Generator<readonly T[]> {
  for (let gone = list.length >> 1; gone > 0; gone >>= 1) yield list.slice(0, list.length - gone);
  for (const i of list.keys()) yield list.toSpliced(i, 1);
}
