/**
 * `apiary rules`: the named rules of the local APICs, since when each is, and where two kernels differ (`--diff A B`), with
 * the smallest case that tells: the model's answers, without KVM. `--host` puts the same cases to the kernel under /dev/kvm.
 */
import { type Behaviour, holds, modelToAsk, RULE_NAMES, RULES, tellingCase, VERSIONED_RULES } from '../apic/index.ts';
import { table, wrapped } from './table.ts';

export interface RulesOptions {
  readonly diff?: readonly [Behaviour, Behaviour];
  readonly host?: boolean;
}

/** Exit status 1 only when the kernel follows the rules of no model. */
export async function rules({ diff, host = false }: RulesOptions): Promise<number> {
  if (host) return await ofHost();
  process.stdout.write(`${diff === undefined ? list() : differences(...diff)}\n`);
  return 0;
}

async function ofHost(): Promise<number> {
  const { askHost, rulesOfKernel } = await import('../conform/kernel-rules.ts');
  const answers = await askHost();
  const rows = answers.map(({ rule, answer, follows }) => [
    rule,
    follows === null ? '?' : follows ? 'yes' : 'no',
    answer,
  ]);
  const { lacking, text } = rulesOfKernel(answers);
  process.stdout.write(`${table(['rule', 'in force', 'the kernel'], rows)}\n${wrapped(text)}\n`);
  return lacking.length > 0 || answers.some(({ follows }) => follows === null) ? 1 : 0;
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
        ...[a, b].map((behaviour) => `- ${behaviour}: ${ask(modelToAsk({ behaviour }))}`),
      ];
      return [`${name}, since Linux ${sinceOf(name)}: ${rule}`, ...lines].map((line) => wrapped(line, '  ')).join('\n');
    })
    .join('\n\n');
}
