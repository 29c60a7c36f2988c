/**
 * `apiary rules`: the named rules of the local APICs, since when each is, and where two kernels differ (`--diff A B`), with
 * the smallest case that tells. Needs no KVM: the answers are the model's.
 */
import { type Behaviour, holds, RULE_NAMES, RULES, tellingCase, VERSIONED_RULES } from '../apic/index.ts';
import { table, wrapped } from './table.ts';

export interface RulesOptions {
  readonly diff?: readonly [Behaviour, Behaviour];
}

export function rules({ diff }: RulesOptions): number {
  process.stdout.write(`${diff === undefined ? list() : differences(...diff)}\n`);
  return 0;
}

const sinceOf = (name: keyof typeof RULES): string => {
  const { since = '', commit } = RULES[name];
  return commit === undefined ? since : `${since} (${commit})`;
};

const list = (): string =>
  table(
    ['rule', 'what it says', 'since Linux'],
    RULE_NAMES.map((name) => [name, RULES[name].rule, sinceOf(name)]),
  );

function differences(a: Behaviour, b: Behaviour): string {
  const changed = VERSIONED_RULES.filter((name) => holds(name, a) !== holds(name, b));
  if (changed.length === 0) return `${a} and ${b} have the same rules.`;
  return changed
    .map((name) => {
      const { rule, before = '' } = RULES[name];
      const { message, ask } = tellingCase(name);
      const lines = [
        `- before: ${before}`,
        `- case: ${message}`,
        ...[a, b].map((behaviour) => `- ${behaviour}: ${ask({ behaviour })}`),
      ];
      return [`${name}, since Linux ${sinceOf(name)}: ${rule}`, ...lines].map((line) => wrapped(line, '  ')).join('\n');
    })
    .join('\n\n');
}
