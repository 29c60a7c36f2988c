/** `apiary run`'s options: from a command line to a machine, and commander's errors for what is none. */
import { Command, type CommanderError } from 'commander';
import { beforeEach, describe, expect, test } from 'vitest';
import { oneLine } from '../../../src/cli/failures.ts';
import {
  addRunOptions,
  bootOptions,
  hotplugActions,
  machineOptions,
  type RunOptions,
} from '../../../src/cli/run-options.ts';

function parse(line: string): RunOptions {
  const command = addRunOptions(new Command('run').argument('<image>')).exitOverride();
  command.configureOutput({ writeErr: () => {}, outputError: () => {} });
  command.parse(['image', ...line.split(' ').filter(Boolean)], { from: 'user' });
  return command.opts<RunOptions>();
}

function mistake(line: string): string {
  try {
    parse(line);
  } catch (error) {
    return oneLine((error as CommanderError).message);
  }
  throw new Error(`${line} was accepted`);
}

beforeEach(() => {
  hotplugActions.length = 0;
});

describe('what becomes of options', () => {
  test('none: one CPU, 64 MiB, our APICs, no trace', () => {
    expect(machineOptions(parse(''), [])).toMatchObject({
      cpus: [0],
      hotpluggable: [],
      memory: 64 * 2 ** 20,
      apic: 'user',
      behaviour: 'kvm',
      cpu: 'host',
      trace: false,
      failMapAllocation: false,
      vectorHashing: true,
    });
  });

  test('all of them', () => {
    const line =
      '--cpus 0,0x23 --memory 128M --apic kernel --x2apic-api use-32bit-ids,disable-broadcast-quirk --behaviour hardware ' +
      '--threads 3 --cpu host,-cx16 --timeout 5s --trace x.json --fail-map-allocation --no-vector-hashing';
    expect(machineOptions(parse(line), [])).toMatchObject({
      cpus: [0, 0x23],
      memory: 128 * 2 ** 20,
      apic: 'kernel',
      x2apicApi: { use32bitIds: true, disableBroadcastQuirk: true },
      behaviour: 'hardware',
      threads: 3,
      cpu: 'host,-cx16',
      timeoutMs: 5000,
      trace: true,
      failMapAllocation: true,
      vectorHashing: false,
    });
  });

  test('--apic-option and --break, as often as one likes', () => {
    const line = '--apic-option suppressEoiBroadcast=enabled --apic-option tscKhz=0x10 --apic-option smm=false';
    expect(machineOptions(parse(`${line} --break gate --break oddDfr`), [])).toMatchObject({
      apicOptions: { suppressEoiBroadcast: 'enabled', tscKhz: 16, smm: false },
      breakRules: ['gate', 'oddDfr'],
    });
  });

  test('--hotplug and --unplug are carried out in the order of the command line, and announce their CPUs', () => {
    const options = parse('--cpus 2 --hotplug 0x123 --unplug 0x123 --hotplug 0x123 --hotplug 5');
    expect(hotplugActions).toEqual([
      { kind: 'hotplug', apicId: 0x123 },
      { kind: 'unplug', apicId: 0x123 },
      { kind: 'hotplug', apicId: 0x123 },
      { kind: 'hotplug', apicId: 5 },
    ]);
    expect(new Set(machineOptions(options, hotplugActions).hotpluggable)).toEqual(new Set([0x123, 5]));
  });

  test('what belongs to the image', () => {
    expect(bootOptions(parse('--kernel-args quiet --initrd a --initrd b --load-address 0x7c00'))).toEqual({
      commandLine: 'quiet',
      modules: ['a', 'b'],
      loadAddress: 0x7c00,
    });
    expect(bootOptions(parse(''))).toEqual({});
  });
});

describe('mistakes are one line that names the option, the value and what to write', () => {
  test.each([
    ['--cpus 0', /--cpus <list>' argument '0' is invalid. 0 CPUs are out of range/],
    ['--cpus x', /--cpus.*write for example 4 or 0x23/],
    ['--hotplug me', /--hotplug <id>' argument 'me'/],
    ['--unplug 1.5', /--unplug <id>' argument '1.5'/],
    ['--memory lots', /--memory.*write for example 64M or 1G/],
    ['--apic mine', /--apic.*Allowed choices are user, kernel/],
    ['--behaviour best', /--behaviour.*Allowed choices are kvm, kvm-legacy, hardware/],
    ['--x2apic-api all', /--x2apic-api.*'all' is not a flag; choose use-32bit-ids, disable-broadcast-quirk/],
    ['--threads few', /--threads.*'few' is not a whole number/],
    ['--timeout soon', /--timeout.*write for example 500ms, 30s, 2m or 1h/],
    ['--timeout 0', /--timeout.*out of range: 1ms to 24 days/],
    ['--load-address here', /--load-address.*'here' is not a whole number/],
    ['--apic-option smm', /--apic-option.*smm must be true or false, not ''/],
    ['--apic-option sms=1', /--apic-option.*there is no APIC option 'sms'; choose x2apicFormat, /],
    ['--apic-option behaviour=best', /--apic-option.*behaviour must be one of kvm, .*not 'best'/],
    ['--apic-option tscKhz=', /--apic-option.*tscKhz must be an integer from 0 to 2147483647, not ''/],
    ['--apic-option tscKhz=1.5', /--apic-option.*tscKhz must be an integer.*not 1.5/],
    ['--break gates', /--break.*there is no rule 'gates'; apiary rules lists them/],
    ['--nonsense', /unknown option '--nonsense'/],
    ['--cpus', /option '--cpus <list>' argument missing/],
    ['second.elf', /too many arguments/],
  ])('%s', (line, message) => {
    const text = mistake(line);
    expect(text).toMatch(message);
    expect(text).toMatch(/^apiary: [^\n]+$/);
  });
});
