/**
 * Models by kernel: which rules each has, that a name means what it says, that all options cross to another thread, and that
 * each versioned rule has a case whose answers differ between the kernel before it and the one with it.
 */
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  ApicSystem,
  type ApicSystemOptions,
  BEHAVIOURS,
  holds,
  KERNELS,
  RULE_NAMES,
  RULES,
} from '../../../src/apic/index.ts';
import { APIC_OPTION_NAMES, APIC_OPTIONS, resolveOptions } from '../../../src/apic/options.ts';
import { modelToAsk, tellingCase, VERSIONED_RULES } from '../../../src/apic/telling.ts';

describe('kernels', () => {
  it('kvm is the newest, kvm-legacy is 6.1, and all of them are behaviours', () => {
    for (const name of RULE_NAMES) {
      expect(holds(name, 'kvm')).toBe(true);
      expect(holds(name, 'kvm@7.2')).toBe(true);
      expect(holds(name, 'kvm-legacy')).toBe(holds(name, 'kvm@6.1'));
    }
    for (const kernel of KERNELS) expect(BEHAVIOURS).toContain(`kvm@${kernel}`);
  });

  it('a rule has a story of before exactly if it has a version, and no kernel is compared as text', () => {
    for (const name of RULE_NAMES) expect(RULES[name].before !== undefined).toBe(RULES[name].since !== undefined);
    expect(holds('gate', 'kvm@6.1')).toBe(false);
    expect(holds('gate', 'kvm@6.12')).toBe(true);
  });
});

describe('a telling case', () => {
  it.each(VERSIONED_RULES)('%s: answers differ between kernels without and with the rule, and only by it', (name) => {
    const { message, ask } = tellingCase(name);
    expect(message.length).toBeGreaterThan(10);
    const [old] = KERNELS.filter((kernel) => !holds(name, `kvm@${kernel}`));
    const answer = (options: ApicSystemOptions): string => ask(modelToAsk(options));
    expect(answer({ behaviour: `kvm@${old}` })).not.toEqual(answer({ behaviour: 'kvm' }));
    for (const kernel of KERNELS) {
      const breakRules = holds(name, `kvm@${kernel}`) ? [] : [name];
      expect(answer({ behaviour: `kvm@${kernel}` })).toEqual(answer({ breakRules }));
    }
  });
});

it('the errata of README.md say of each versioned rule since when it is', () => {
  const readme = readFileSync(new URL('../../../src/apic/README.md', import.meta.url), 'utf8');
  for (const name of VERSIONED_RULES) {
    const row = readme.split('\n').find((line) => line.startsWith('|') && line.includes(`\`${name}\``));
    expect(row, name).toBeDefined();
    expect(row).toContain(` ${RULES[name].since}`);
    expect(RULES[name].commit, name).toBeDefined();
    expect(row).toContain(RULES[name].commit);
  }
});

it('every option crosses to another thread by the header', () => {
  const values: Record<string, fc.Arbitrary<unknown>> = {};
  for (const name of APIC_OPTION_NAMES) {
    const spec = APIC_OPTIONS[name];
    if (spec.kind === 'flag') values[name] = fc.boolean();
    else if (spec.kind === 'choice') values[name] = fc.constantFrom<string>(...spec.choices);
    else values[name] = fc.integer({ min: spec.low, max: Math.min(spec.high, 5000) });
  }
  fc.assert(
    fc.property(fc.record(values), fc.subarray([...RULE_NAMES]), (options, breakRules) => {
      const asked = { ...options, breakRules } as ApicSystemOptions;
      const system = new ApicSystem({ ...asked, maxApics: 1, maxApicId: 255 });
      const expected = { ...resolveOptions(asked), maxApics: 1, maxApicId: 255 };
      expect(system.options).toEqual(expected);
      expect(ApicSystem.attach(system.memory).options).toEqual(expected);
    }),
    { numRuns: 60 },
  );
});
