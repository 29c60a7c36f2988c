/** Which rules a kernel follows, with models in the kernel's place. */
import { describe, expect, it } from 'vitest';
import { type ApicSystemOptions, KERNELS, modelToAsk, VERSIONED_RULES } from '../../../src/apic/index.ts';
import { askKernel, rulesOfKernel } from '../../../src/conform/kernel-rules.ts';

const ask = (options: ApicSystemOptions) => rulesOfKernel(askKernel((body) => body(modelToAsk(options))));

describe('the rules of a kernel', () => {
  it.each(KERNELS)('of %s are recognised', (kernel) => {
    const { behaviour, lacking } = ask({ behaviour: `kvm@${kernel}` });
    expect(lacking).toEqual([]);
    // Kernels with the same rules are one to us: the newest of them is named.
    const same = ask({ behaviour });
    expect(same.behaviour).toBe(behaviour);
    expect(behaviour === 'kvm@6.1').toBe(kernel === '6.1');
  });

  it('are said in a line', () => {
    expect(ask({ behaviour: 'kvm@6.1' }).text).toBe(
      'this kernel routes as Linux 6.1: the hotplug hack whatever x2apicFormat says',
    );
    expect(ask({ behaviour: 'kvm' }).text).toMatch(/^this kernel routes as Linux 6\.12 to 7\.2: x2apicFormat decides/);
  });

  it.each(VERSIONED_RULES)('that lacks %s alone is the newest one without it', (rule) => {
    const { behaviour, lacking, text } = ask({ behaviour: 'kvm', breakRules: [rule] });
    expect({ behaviour, lacking }).toEqual({ behaviour: 'kvm', lacking: [rule] });
    expect(text).toContain(`but for ${rule}`);
  });

  it('that answers as no model does is compared with the rule', () => {
    const answers = askKernel(() => 'something else');
    expect(answers.map(({ follows }) => follows)).toEqual(VERSIONED_RULES.map(() => null));
    expect(rulesOfKernel(answers).lacking).toEqual([]);
  });
});
