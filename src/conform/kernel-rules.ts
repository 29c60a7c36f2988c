/**
 * Which rules the kernel under /dev/kvm follows, asked of it by the telling cases of src/apic/telling.ts, in some
 * milliseconds, rather than read from its version: distributors take fixes back into old kernels.
 */
import {
  type ApicsToAsk,
  type Behaviour,
  holds,
  KERNELS,
  modelToAsk,
  RULES,
  type RuleName,
  tellingCase,
  VERSIONED_RULES,
} from '../apic/index.ts';

/** What one versioned rule's case says of a kernel. */
export interface KernelAnswer {
  readonly rule: RuleName;
  readonly answer: string;
  /** Null: neither the answer with the rule nor the one without it. */
  readonly follows: boolean | null;
}

export interface KernelRules {
  /** The model to compare it with ... */
  readonly behaviour: Behaviour;
  /** ... without these rules. None where the kernel's rules are all those of one that is known. */
  readonly lacking: readonly RuleName[];
  /** One line for a person. */
  readonly text: string;
}

/** @param ask runs a case before new vCPUs of the kernel's, or of what stands for it */
export function askKernel(ask: (body: (apics: ApicsToAsk) => string) => string): KernelAnswer[] {
  return VERSIONED_RULES.map((rule) => {
    const telling = tellingCase(rule);
    const answer = ask(telling.ask);
    const follows = answer === telling.ask(modelToAsk({}));
    const departs = answer === telling.ask(modelToAsk({ breakRules: [rule] }));
    return { rule, answer, follows: follows ? true : departs ? false : null };
  });
}

/** An answer that no model gives is compared with the rule, and differs. */
export function rulesOfKernel(answers: readonly KernelAnswer[]): KernelRules {
  const lacking = answers.filter(({ follows }) => follows === false).map(({ rule }) => rule);
  const same = KERNELS.filter((kernel) =>
    VERSIONED_RULES.every((rule) => holds(rule, `kvm@${kernel}`) !== lacking.includes(rule)),
  );
  const newest = same.at(-1);
  const routing = lacking.includes('gate') ? RULES.gate.before : RULES.gate.rule;
  if (newest === undefined) {
    const without = `as Linux ${KERNELS.at(-1)} but for ${lacking.join(', ')}`;
    return { behaviour: 'kvm', lacking, text: `this kernel routes ${without}: ${routing}` };
  }
  const range = same[0] === newest ? newest : `${same[0]} to ${newest}`;
  return { behaviour: `kvm@${newest}`, lacking: [], text: `this kernel routes as Linux ${range}: ${routing}` };
}

/** The answers of this host's kernel. @throws KvmError where KVM cannot be used */
export async function askHost(): Promise<KernelAnswer[]> {
  const { withKernel } = await import('./host.ts');
  return askKernel(withKernel);
}

/** The rules of this host's kernel. @throws KvmError where KVM cannot be used */
export const hostKernelRules = async (): Promise<KernelRules> => rulesOfKernel(await askHost());
