/** What a machine can be made of: defaults, limits, and one line for each mistake. */
import { describe, expect, test } from 'vitest';
import {
  checkApicId,
  checkOptions,
  type HostLimits,
  type MachineOptions,
  parseSize,
} from '../../../src/machine/options.ts';

const LIMITS: HostLimits = { maxVcpus: 1024, maxVcpuId: 4096, cores: 2 };
const check = (options: MachineOptions, limits = LIMITS) => checkOptions(options, limits);

describe('parseSize', () => {
  test.each([
    ['4096', 4096],
    ['64M', 64 * 2 ** 20],
    ['64m', 64 * 2 ** 20],
    ['1G', 2 ** 30],
    ['512K', 2 ** 19],
    ['64MB', 64 * 2 ** 20],
    ['64MiB', 64 * 2 ** 20],
    [' 2M ', 2 ** 21],
  ])('%j is %i bytes', (text, bytes) => expect(parseSize(text)).toBe(bytes));

  test.each(['', 'M', '-1M', '1.5G', '0x10M', '64T', '64 M', 'lots'])('%j is no size', (text) => {
    expect(() => parseSize(text)).toThrow(`memory '${text}' is not a size; write for example 64M or 1G`);
  });
});

describe('checkOptions', () => {
  test('nothing given: one CPU, 64 MiB, our APICs by the kvm rules, KVM defaults, no timeout', () => {
    expect(check({})).toMatchObject({
      memoryBytes: 64 * 2 ** 20,
      cpus: [0],
      hotpluggable: [],
      apic: 'user',
      use32bitIds: false,
      disableBroadcastQuirk: false,
      behaviour: 'kvm',
      failMapAllocation: false,
      vectorHashing: true,
      cpu: 'host',
      timeoutMs: Number.POSITIVE_INFINITY,
      trace: false,
    });
  });

  test('a number of CPUs is the APIC IDs from 0', () => expect(check({ cpus: 3 }).cpus).toEqual([0, 1, 2]));

  test('a list keeps its order, the boot CPU first', () => {
    expect(check({ cpus: [0x23, 0], hotpluggable: [0x123] })).toMatchObject({ cpus: [0x23, 0], hotpluggable: [0x123] });
  });

  test('memory is rounded up to pages', () => expect(check({ memory: 0x20_0001 }).memoryBytes).toBe(0x20_1000));

  test.each([0x20_0000, 0xc000_0000, '2M', '3G'])('memory %s is a limit that works', (memory) => {
    expect(check({ memory }).memoryBytes).toBeGreaterThan(0);
  });

  test('at most as many threads as cores, two at least so that a CPU can be added beside a busy one', () => {
    expect(check({ cpus: 8 }).threads).toBe(2);
    expect(check({ cpus: 8 }, { ...LIMITS, cores: 64 }).threads).toBe(8);
    expect(check({ cpus: 1 }, { ...LIMITS, cores: 64 }).threads).toBe(2);
    expect(check({ cpus: 1, threads: 4 }).threads).toBe(4);
  });

  test.each<[MachineOptions, RegExp]>([
    [{ cpus: 0 }, /^cpus 0 is out of range: this host's KVM runs 1 to 1024 vCPUs$/],
    [{ cpus: 1025 }, /^cpus 1025 is out of range/],
    [{ cpus: 1.5 }, /^cpus 1.5 is out of range/],
    [{ cpus: [] }, /^cpus is empty: a machine needs a boot CPU/],
    [{ cpus: [0, 0] }, /^APIC ID 0x0 is given twice/],
    [{ cpus: [0], hotpluggable: [0] }, /^APIC ID 0x0 is given twice/],
    [{ cpus: [0, 4096] }, /^APIC ID 0x1000 is too large: this host's KVM takes IDs up to 0xfff$/],
    [{ hotpluggable: [4096] }, /^APIC ID 0x1000 is too large/],
    [{ cpus: [-1] }, /^APIC ID -1 is not a whole number from 0 on$/],
    [{ memory: 1 }, /^memory 1 is out of range: give 2M to 3G$/],
    [{ memory: 2 ** 20 }, /^memory 1M is out of range: give 2M to 3G$/],
    [{ memory: '4G' }, /^memory 4G is out of range: give 2M to 3G$/],
    [{ memory: Number.NaN }, /^memory NaN is out of range/],
    [{ threads: 0 }, /^threads 0 is out of range: give 1 to 256$/],
    [{ threads: 257 }, /^threads 257 is out of range/],
    [{ timeoutMs: 0 }, /^timeout 0 ms is out of range/],
    [{ timeoutMs: -5 }, /^timeout -5 ms is out of range/],
    [{ timeoutMs: Number.NaN }, /^timeout NaN ms is out of range/],
    [{ timeoutMs: 2 ** 31 }, /^timeout 2147483648 ms is out of range/],
    [{ apic: 'mine' as 'user' }, /^apic 'mine' is not known; choose user, kernel$/],
    [{ behaviour: 'kvm2' as 'kvm' }, /^behaviour must be one of kvm, kvm-legacy, hardware, kvm@6.1.*, not 'kvm2'$/],
  ])('%j is refused in one line', (options, message) => {
    expect(() => check(options)).toThrow(
      expect.objectContaining({ name: 'ConfigError', message: expect.stringMatching(message) }),
    );
  });

  test('every option of an APIC system reaches it; apicOptions has the last word', () => {
    const named = { behaviour: 'hardware', x2apicApi: { use32bitIds: true } } as const;
    expect(check({ ...named, apicOptions: { suppressEoiBroadcast: 'enabled', behaviour: 'kvm@6.1' } })).toMatchObject({
      behaviour: 'kvm@6.1',
      use32bitIds: true,
      apicOptions: { suppressEoiBroadcast: 'enabled', behaviour: 'kvm@6.1', x2apicFormat: true, vectorHashing: true },
    });
    const gate = check({ apicOptions: { x2apicFormat: true, breakRules: ['gate'] }, breakRules: ['oddDfr'] });
    expect([gate.use32bitIds, gate.apicOptions.breakRules]).toEqual([true, ['oddDfr', 'gate']]);
  });

  test.each<[MachineOptions, RegExp]>([
    [{ apicOptions: { maxApics: 4 } }, /^the APIC option maxApics is the machine's own: leave it out$/],
    [{ apicOptions: { shared: false } }, /^the APIC option shared is the machine's own/],
    [{ apicOptions: { tscKhz: -1 } }, /^tscKhz must be an integer from 0 to 2147483647, not -1$/],
    [{ apicOptions: { smm: 'no' as unknown as boolean } }, /^smm must be true or false, not 'no'$/],
    [{ apicOptions: { sms: true } as object }, /^there is no APIC option 'sms': did you mean smm\?$/],
    [{ apicOptions: { colour: true } as object }, /^there is no APIC option 'colour'; choose x2apicFormat, /],
    [{ breakRules: ['gates' as 'gate'] }, /^there is no rule 'gates': did you mean gate\?$/],
    [{ apic: 'kernel', trace: true }, /^trace is for our APICs and does nothing with KVM's: leave it out/],
    [{ apic: 'kernel', behaviour: 'hardware' }, /^behaviour hardware is for our APICs/],
    [{ apic: 'kernel', failMapAllocation: true }, /^a failing map allocation is for our APICs/],
    [{ apic: 'kernel', vectorHashing: false }, /^no vector hashing is for our APICs/],
    [{ apic: 'kernel', breakRules: ['gate'] }, /^APIC options and rules to break are for our APICs/],
    [{ apic: 'kernel', apicOptions: { smm: false } }, /^APIC options and rules to break are for our APICs/],
  ])('%j is refused in one line', (options, message) => {
    expect(() => check(options)).toThrow(
      expect.objectContaining({ name: 'ConfigError', message: expect.stringMatching(message) }),
    );
  });

  test.each<[object | null, RegExp]>([
    [null, /^the options must be an object, not null$/],
    [{ memmory: '64M' }, /^there is no option 'memmory': did you mean memory\?$/],
    [{ timeoutMS: 5 }, /^there is no option 'timeoutMS': did you mean timeoutMs\?$/],
    [{ colour: 'red' }, /^there is no option 'colour'; choose memory, cpus, .*, script$/],
    [{ toString: 1 }, /^there is no option 'toString'/],
    [{ x2apicApi: { use32BitIDs: true } }, /^there is no x2apicApi option 'use32BitIDs': did you mean use32bitIds\?$/],
    [{ x2apicApi: { use32bitIds: 'yes' } }, /^use32bitIds must be true or false, not 'yes'$/],
    [{ x2apicApi: [] }, /^x2apicApi must be an object, not \[\]$/],
    [{ cpus: null }, /^cpus must be a number of CPUs or a list of APIC IDs, not null$/],
    [{ cpus: '2' }, /^cpus must be a number of CPUs or a list of APIC IDs, not '2'$/],
    [{ cpus: ['0', 1] }, /^cpus must be a number of CPUs or a list of APIC IDs, not \['0', 1\]$/],
    [{ hotpluggable: 0x123 }, /^hotpluggable must be a list of APIC IDs, not 291$/],
    [{ memory: {} }, /^memory must be a number of bytes or a string such as '64M', not an object$/],
    [{ threads: '2' }, /^threads must be a number, not '2'$/],
    [{ reboot: 1 }, /^reboot must be true or false, not 1$/],
    [{ apic: ['user'] }, /^apic must be a string, not \['user'\]$/],
    [{ breakRules: 'gate' }, /^breakRules must be a list of strings, not 'gate'$/],
    [{ signal: {} }, /^signal must be an AbortSignal, not an object$/],
    [
      { devices: ['./post-card.mjs'] },
      /^devices must be a list of URLs, for example .*, not \['\.\/post-card\.mjs'\]$/,
    ],
  ])('what only JavaScript can ask for, %j, is refused in one line', (options, message) => {
    expect(() => check(options as MachineOptions)).toThrow(
      expect.objectContaining({ name: 'ConfigError', message: expect.stringMatching(message) }),
    );
  });

  test('undefined is as good as not given', () => expect(check({ cpus: undefined } as object).cpus).toEqual([0]));

  test('more CPUs, present and to come, than KVM runs in a VM are refused', () => {
    const hotpluggable = Array.from({ length: 1024 }, (_, index) => index + 1);
    expect(() => check({ cpus: [0], hotpluggable })).toThrow(/^1025 vCPUs are too many/);
  });
});

describe('checkApicId', () => {
  test.each([0, 0xff, 0x123, 4095])('%i is an APIC ID', (apicId) => checkApicId(apicId, LIMITS));
  test.each([-1, 0.5, Number.NaN, 4096, Number.POSITIVE_INFINITY])('%d is none', (apicId) => {
    expect(() => checkApicId(apicId, LIMITS)).toThrow(/^APIC ID/);
  });
});
