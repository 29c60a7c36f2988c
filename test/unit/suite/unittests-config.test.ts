/** The form of kvm-unit-tests' unittests.cfg, after their docs/unittests.txt and the reader in their scripts/common.bash. */
import { expect, test } from 'vitest';
import { parseUnitTests } from '../../../src/suite/unittests-config.ts';

test('a section with every key', () => {
  const [only, ...others] = parseUnitTests(`
# a comment
[x2apic]
file = apic.flat
smp = 2
test_args = 'a b'
qemu_params = -cpu max,+x2apic -m 4g
groups = apic irq
arch = x86_64
machine = q35
check = /sys/a=Y /sys/b=0
accel = kvm
timeout = 30
disabled_if = [ "$X" ]
`);
  expect(others).toEqual([]);
  expect(only).toEqual({
    name: 'x2apic',
    file: 'apic.flat',
    smp: '2',
    testArgs: "'a b'",
    params: '-cpu max,+x2apic -m 4g',
    groups: ['apic', 'irq'],
    arch: 'x86_64',
    machine: 'q35',
    check: '/sys/a=Y /sys/b=0',
    accel: 'kvm',
    timeout: '30',
    disabledIf: '[ "$X" ]',
  });
});

test('nothing is carried over from one section to the next', () => {
  const tests = parseUnitTests('[a]\nfile=a.flat\nsmp=4\ntimeout=3\n[b]\nfile = b.flat\n');
  expect(tests.map(({ name, smp, timeout }) => [name, smp, timeout])).toEqual([
    ['a', '4', '3'],
    ['b', '1', ''],
  ]);
});

test('extra_params is the old name of qemu_params', () => {
  expect(parseUnitTests('[a]\nextra_params = -m 1g')[0]?.params).toBe('-m 1g');
});

test('lines outside a section, unknown keys and comments mean nothing', () => {
  expect(parseUnitTests('smp = 3\n#[gone]\n#file = gone.flat\n[a]\nkvmtool_params = --mem 1\nnonsense\n')).toHaveLength(
    1,
  );
});

test('three quotes open a value of several lines, a backslash joins two of them', () => {
  const [first, second] = parseUnitTests(
    '[a]\nqemu_params = """-m 1g \\\n  -cpu max\n-x"""\nsmp = 2\n[b]\nfile = """one"""\n',
  );
  expect(first?.params).toBe('-m 1g   -cpu max\n-x');
  expect(first?.smp).toBe('2');
  expect(second?.file).toBe('one');
});

test('a value that is never closed ends with the file', () => {
  expect(parseUnitTests('[a]\nqemu_params = """-m 1g\n-x')[0]?.params).toBe('-m 1g\n-x');
});

test('files with carriage returns read the same', () => {
  expect(parseUnitTests('[a]\r\nfile = a.flat\r\nsmp = 2\r\n')).toEqual(
    parseUnitTests('[a]\nfile = a.flat\nsmp = 2\n'),
  );
});
