/**
 * Edits of protocols in shared memory, made from the source itself: each atomic write made plain, and each two neighbouring
 * statements that touch shared memory swapped. The source is formatted, so its indentation tells blocks and statements.
 */
import { readFileSync } from 'node:fs';
import type { Mutant } from './mutant.ts';

/** Functions that touch shared memory for who calls them. */
const TOUCHES =
  /Atomics\.|words\[|words\.fill|\b(lock|unlock|publishIdentity|shareSetVector|shareClearVector|signalWorker|wakeVcpu)\(|#build\(|markDirty\(|recalculate\(|rebuildMap\(|\.wake\(|\.kick\(|host\.wait\(|#setReady\(|#clearReady\(|#sleep\(|postMessage\(|powerUp\(|reset\(|prepare\(|enterGuest\(|setRunState\(/;
/** Statements that go elsewhere: what comes after them is no neighbour. */
const LEAVES = /\b(return|continue|break|throw|case|default)\b/;
const DECLARES = /^(?:const|let) (?:\{([^}]*)\}|\[([^\]]*)\]|(\w+))/;

const WRITES: Readonly<Record<string, (old: string, a: string, b: string) => string>> = {
  store: (_old, a) => a,
  exchange: (_old, a) => a,
  or: (old, a) => `${old} | (${a})`,
  and: (old, a) => `${old} & (${a})`,
  add: (old, a) => `${old} + (${a})`,
  sub: (old, a) => `${old} - (${a})`,
  compareExchange: (old, a, b) => `${old} === (${a}) ? (${b}) : ${old}`,
};

const shortened = (text: string): string => text.trim().replaceAll(/\s+/g, ' ').slice(0, 90);
const nameOf = (file: string): string => file.replace(/^src\//, '');

/** Every atomic write of these files, as two plain accesses or one. */
export function madePlain(files: readonly string[]): Mutant[] {
  return files.flatMap((file) => {
    const source = readFileSync(file, 'utf8');
    const mutants: Mutant[] = [];
    for (const match of source.matchAll(/Atomics\.(store|exchange|or|and|add|sub|compareExchange)\(/g)) {
      const end = closing(source, match.index + match[0].length - 1);
      const find = source.slice(match.index, end + 1);
      const [array = '', index = '', a = '', b = ''] = args(find.slice(match[0].length, -1));
      const word = `${array}[${index}]`;
      const value = WRITES[match[1] as string]?.('old', a, b) ?? a;
      const isStatement = /^\s*$/.test(source.slice(source.lastIndexOf('\n', match.index) + 1, match.index));
      const plain = `${word} = ${value.replaceAll(/\bold\b/g, word)}`;
      const replace = isStatement ? plain : `((old: number) => { ${word} = ${value}; return old; })(${word})`;
      const line = lineOf(source, match.index);
      mutants.push({ name: `${nameOf(file)} plain: ${shortened(lineText(source, line))}`, file, find, replace, line });
    }
    return mutants;
  });
}

/** Every two statements of these files that touch shared memory, one after the other, the other way round. */
export function swapped(files: readonly string[]): Mutant[] {
  return files.flatMap((file) => {
    const statements = statementsOf(readFileSync(file, 'utf8').split('\n'));
    return statements.flatMap((first, i) => {
      const swap = touches(first) ? swapWithNext(statements, i) : undefined;
      if (swap === undefined) return [];
      const { second, find, replace } = swap;
      const name = `${nameOf(file)} swapped: ${shortened(first.code)} <-> ${shortened(second.code)}`;
      return [{ name, file, find, replace, line: first.from + 1 }];
    });
  });
}

interface Statement {
  readonly from: number;
  /** The line after it. */
  readonly to: number;
  readonly block: number;
  /** With the comments before it, and line ends. */
  readonly text: string;
  readonly code: string;
}

const touches = ({ code }: Statement): boolean => TOUCHES.test(code) && !LEAVES.test(code);

/** The next statement that touches shared memory goes before this one; or this one after it, where that needs what lies between. */
function swapWithNext(
  statements: readonly Statement[],
  at: number,
): { second: Statement; find: string; replace: string } | undefined {
  const first = statements[at] as Statement;
  const rest = statements.slice(at + 1).filter(({ block }) => block === first.block);
  const index = rest.findIndex(({ code }) => TOUCHES.test(code));
  const second = rest[index];
  if (second === undefined || !touches(second) || needs(second, first)) return undefined;
  const between = rest.slice(0, index);
  const middle = between.map(({ text }) => text).join('');
  const find = first.text + middle + second.text;
  if (!between.some((each) => needs(second, each))) return { second, find, replace: second.text + first.text + middle };
  if (between.some((each) => LEAVES.test(each.code) || needs(each, first))) return undefined;
  return { second, find, replace: middle + second.text + first.text };
}

/** The statements of all functions, block by block. */
function statementsOf(lines: readonly string[]): Statement[] {
  const found: Statement[] = [];
  let blocks = 0;
  const visit = (from: number, to: number, indent: number, isCode: boolean): void => {
    let block = blocks++;
    for (let at = from; at < to; ) {
      let code = at;
      while (code < to && /^\s*(\/\/|\*|\/\*|$)/.test(lines[code] as string)) code++;
      if (code >= to) return;
      if (indentOf(lines[code] as string) < indent) {
        block = blocks++; // `} else {`
        at = code + 1;
        continue;
      }
      let end = code + 1;
      for (let next = end; next < to; next++) {
        const line = lines[next] as string;
        if (line.trim() === '') continue;
        if (indentOf(line) < indent) break;
        if (indentOf(line) === indent && !/^\s*([})\]]|else\b)/.test(line)) break;
        end = next + 1;
      }
      const body = lines.slice(code, end);
      const head = body[0] as string;
      const text = `${lines.slice(at, end).join('\n')}\n`;
      if (isCode) found.push({ from: at, to: end, block, text, code: body.map((line) => line.trim()).join(' ') });
      if (end > code + 1)
        visit(code + 1, end - 1, indent + 2, !/^\s*(export )?(class|interface|type|const \w+ = \{)/.test(head));
      at = end;
    }
  };
  visit(0, lines.length, 0, false);
  return found.sort((x, y) => x.block - y.block || x.from - y.from);
}

const indentOf = (line: string): number => line.length - line.trimStart().length;

/** Does a statement use a variable that an earlier one declares or changes, or the other way round? */
function needs(later: Statement, earlier: Statement): boolean {
  const uses = (code: string, name: string): boolean => name !== '' && new RegExp(`\\b${name}\\b`).test(code);
  return (
    declared(earlier).some((name) => uses(later.code, name)) ||
    changed(earlier).some((name) => uses(later.code, name)) ||
    changed(later).some((name) => uses(earlier.code, name))
  );
}

function declared({ code }: Statement): string[] {
  const match = DECLARES.exec(code);
  const list = match?.[1] ?? match?.[2] ?? match?.[3] ?? '';
  return list.split(',').map((each) => each.split(':').pop()?.trim() ?? '');
}

/** Local variables that a statement assigns to. */
const changed = ({ code }: Statement): string[] =>
  [...code.matchAll(/(?<![\w.\]#])([a-z]\w*) (?:[-+|&^]|>>>?|<<)?= /g)].map((match) => match[1] as string);

function closing(source: string, open: number): number {
  let depth = 0;
  for (let at = open; at < source.length; at++) {
    if ('([{'.includes(source[at] as string)) depth++;
    if (')]}'.includes(source[at] as string) && --depth === 0) return at;
  }
  throw new Error('no end of a call');
}

/** A call's arguments. */
function args(text: string): string[] {
  const list: string[] = [];
  let depth = 0;
  let from = 0;
  for (let at = 0; at <= text.length; at++) {
    if (at === text.length || (depth === 0 && text[at] === ',')) {
      list.push(text.slice(from, at).trim());
      from = at + 1;
    } else if ('([{'.includes(text[at] as string)) depth++;
    else if (')]}'.includes(text[at] as string)) depth--;
  }
  return list;
}

const lineOf = (source: string, at: number): number => source.slice(0, at).split('\n').length;
const lineText = (source: string, line: number): string => source.split('\n')[line - 1] ?? '';
