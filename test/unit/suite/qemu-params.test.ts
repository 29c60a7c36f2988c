import { describe, expect, test } from 'vitest';
import { planMachine } from '../../../src/suite/qemu-params.ts';
import { parseUnitTests } from '../../../src/suite/unittests-config.ts';

const MIB = 2 ** 20;

function plan(lines: string, maxCpus = 7): unknown {
  const [first] = parseUnitTests(`[t]\n${lines}`);
  if (!first) throw new Error('no test');
  const planned = planMachine(first, maxCpus);
  return 'plan' in planned ? planned.plan : planned.skip;
}

describe('what there is here', () => {
  test("without options: one CPU, QEMU's 128 MiB, no command line", () => {
    expect(plan('file = a.flat')).toEqual({ cpus: 1, features: [], memoryBytes: 128 * MIB, commandLine: undefined });
  });

  test('CPUs by smp, by -smp, by the host', () => {
    expect(plan('smp = 4')).toMatchObject({ cpus: 4 });
    expect(plan('smp = 4\nqemu_params = -smp cpus=3,cores=3')).toMatchObject({ cpus: 3 });
    expect(plan('smp = $MAX_SMP')).toMatchObject({ cpus: 7 });
  });

  test("a CPU model's name is dropped, its features stay, in order", () => {
    expect(plan('qemu_params = -cpu qemu64,-x2apic,+tsc-deadline')).toMatchObject({
      features: ['-x2apic'],
    });
    expect(plan('qemu_params = -cpu max,vendor=GenuineIntel,pcid=on,invpcid=off,host-phys-bits')).toMatchObject({
      features: ['-invpcid'],
    });
  });

  test('memory in MiB unless it says otherwise', () => {
    expect(plan('qemu_params = -m 256')).toMatchObject({ memoryBytes: 256 * MIB });
    expect(plan('qemu_params = -m 2g')).toMatchObject({ memoryBytes: 2048 * MIB });
  });

  test('the first word of test_args is the command line, quotes hold it together', () => {
    expect(plan("test_args = 'a b'")).toMatchObject({ commandLine: 'a b' });
    expect(plan('test_args = "-x ept*"')).toMatchObject({ commandLine: '-x ept*' });
    expect(plan('test_args = tscdeadline')).toMatchObject({ commandLine: 'tscdeadline' });
  });

  test('the time of day in backquotes', () => {
    const { commandLine } = plan('test_args = "10000000 `date +%s`"') as { commandLine: string };
    expect(commandLine).toMatch(/^10000000 \d{10}$/);
  });

  test('options that change nothing here', () => {
    expect(plan('qemu_params = -machine pit=off -enable-kvm -overcommit cpu-pm=on -device pc-testdev')).toMatchObject({
      cpus: 1,
    });
  });
});

test.each([
  ['qemu_params = -M q35,kernel-irqchip=split', 'no -machine kernel-irqchip=split here'],
  ['qemu_params = -device intel-iommu,intremap=on', 'no -device intel-iommu here'],
  ['qemu_params = -cpu host,hv_passthrough', 'no -cpu hv_passthrough here'],
  ['qemu_params = -cpu IvyBridge,phys-bits=36', 'no -cpu phys-bits=36 here'],
  ['qemu_params = -cpu max,-nonesuch', 'no -cpu -nonesuch here'],
  ['qemu_params = -m 4g', 'needs more than 3 GiB of memory'],
  ['qemu_params = -m lots', 'needs more than 3 GiB of memory'],
  ['qemu_params = -monitor stdio', 'no QEMU option -monitor here'],
  ['test_args = "`uname -r`"', 'its arguments run a shell command'],
  ['smp = many', 'smp = many is no number'],
])('%s: skipped', (line, reason) => {
  expect(plan(line)).toBe(reason);
});
