/**
 * One-line mutants chosen by a seed: every place of some files where a small edit makes other sense, and of those a few. The
 * same source and seed give the same mutants.
 */
import { readFileSync } from 'node:fs';
import { transformSync } from 'esbuild';
import { type Mutant, mutate } from './mutant.ts';

/** What becomes what. The first group of a pattern, if any, stays. */
const EDITS: readonly (readonly [pattern: RegExp, replacement: string])[] = [
  [/ === /g, ' !== '],
  [/ !== /g, ' === '],
  [/ < /g, ' <= '],
  [/ <= /g, ' < '],
  [/ > /g, ' >= '],
  [/ >= /g, ' > '],
  [/ && /g, ' || '],
  [/ \|\| /g, ' && '],
  [/ \+ /g, ' - '],
  [/ - /g, ' + '],
  [/ & /g, ' | '],
  [/ \| /g, ' & '],
  [/ >>> /g, ' << '],
  [/\btrue\b/g, 'false'],
  [/\bfalse\b/g, 'true'],
  [/Math\.min/g, 'Math.max'],
  [/Math\.max/g, 'Math.min'],
  [/(if|while) \((?!\()/g, '$1 (!'],
  [/\b0\b/g, '1'],
  [/\b1\b/g, '2'],
];
/** A statement of its own on a line: it can be left out. */
const STATEMENT =
  /^\s+(?:(?!return|throw|break|continue|case|const|let|readonly|import|export|type)[\w.#[\]]+(?:\(| [|&+-]?= |\+\+)).*;$/;

/** A line that is no code: comment, import, type. */
const NO_CODE = /^\s*(?:\*|\/\*|\/\/|import|export (?:type|interface)|readonly \w+:|[|}])/;

/** @param file its lines of code, each with each edit */
function* candidates(file: string): Iterable<Mutant> {
  const lines = readFileSync(file, 'utf8').split('\n');
  let imports = true;
  for (const [index, text] of lines.entries()) {
    imports &&= !/^(?:export|const|function|class)/.test(text);
    if (imports || NO_CODE.test(text)) continue;
    const [code] = text.split(' // ');
    const before = lines.slice(0, index).filter((other) => other.trim() === text.trim()).length;
    const which = before === 0 ? '' : ` [${before + 1}]`; // of several such lines
    const mutant = (changed: string): Mutant => ({
      name: `${file}${which}: ${text.trim()} -> ${changed.trim() || 'nothing'}`,
      file,
      find: text,
      replace: changed,
      line: index + 1,
    });
    if (STATEMENT.test(code)) yield mutant('');
    for (const [pattern, replacement] of EDITS) {
      for (const match of code.matchAll(pattern)) {
        const made = match[0].replace(new RegExp(pattern.source), replacement);
        yield mutant(code.slice(0, match.index) + made + code.slice(match.index + match[0].length));
      }
    }
  }
}

/** Uniform in [0, 1), from a 32-bit state (mulberry32). */
function generator(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The edit leaves a program, and another one: types are nothing that runs. */
function isProgram(mutant: Mutant): boolean {
  const source = readFileSync(mutant.file, 'utf8');
  const compiled = (text: string): string => transformSync(text, { loader: 'ts', minifyWhitespace: true }).code;
  try {
    return compiled(mutate(source, mutant)) !== compiled(source);
  } catch {
    return false;
  }
}

/**
 * @param equivalents by name: why no test can tell
 * @returns `count` of all mutants of the files, in the files' order
 */
export function randomMutants(
  files: readonly string[],
  seed: number,
  count: number,
  equivalents: Readonly<Record<string, string>>,
): Mutant[] {
  const all = files.flatMap((file) => [...candidates(file)]);
  const next = generator(seed);
  const tried = new Set<number>();
  const chosen: number[] = [];
  while (chosen.length < count && tried.size < all.length) {
    const index = Math.floor(next() * all.length);
    if (tried.has(index)) continue;
    tried.add(index);
    if (isProgram(all[index])) chosen.push(index);
  }
  return chosen
    .sort((a, b) => a - b)
    .map((index) => {
      const equivalent = equivalents[all[index].name];
      return equivalent === undefined ? all[index] : { ...all[index], equivalent };
    });
}
