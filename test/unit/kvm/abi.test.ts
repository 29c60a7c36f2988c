/**
 * The tables of src/kvm against the compiler: a generated C program prints every ioctl number, struct size, member offset
 * and constant as <linux/kvm.h> has them. What an older header does not know yet is skipped by name (#ifdef), and those
 * names are listed, so that a misspelt one is not taken for a new one.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import * as constants from '../../../src/kvm/constants.ts';
import * as layouts from '../../../src/kvm/layouts.ts';

/** Newer than Linux 6.1's header (Debian 12). */
const MAY_BE_UNKNOWN = [
  'KVM_CAP_X86_APIC_BUS_CYCLES_NS',
  'KVM_EXIT_MEMORY_FAULT',
  'KVM_X2APIC_ENABLE_SUPPRESS_EOI_BROADCAST',
  'KVM_X2APIC_DISABLE_SUPPRESS_EOI_BROADCAST',
];

const constantTables: readonly (readonly [prefix: string, table: Readonly<Record<string, number>>])[] = [
  ['', constants.Ioctl],
  ['KVM_', { API_VERSION: constants.API_VERSION }],
  ['KVM_CAP_', constants.Cap],
  ['KVM_EXIT_', constants.ExitReason],
  ['KVM_EXIT_IO_', constants.IoDirection],
  ['KVM_INTERNAL_ERROR_', constants.InternalError],
  ['KVM_INTERNAL_ERROR_EMULATION_FLAG_', constants.EmulationFlag],
  ['KVM_SYSTEM_EVENT_', constants.SystemEvent],
  ['KVM_NOTIFY_', constants.NotifyFlag],
  ['KVM_RUN_X86_', constants.RunFlag],
  ['KVM_SYNC_X86_', constants.SyncRegs],
  ['KVM_MP_STATE_', constants.MpState],
  ['KVM_MEM_', constants.MemoryFlag],
  ['KVM_MSR_EXIT_REASON_', constants.MsrExitReason],
  ['KVM_MSR_FILTER_', constants.MsrFilterFlag],
  ['KVM_X2APIC_', constants.X2apicFlag],
  ['KVM_CPUID_FLAG_', constants.CpuidFlag],
  ['KVM_VCPUEVENT_VALID_', constants.VcpuEventValid],
  ['KVM_X86_SHADOW_', constants.InterruptShadow],
  ['KVM_IRQ_ROUTING_', constants.IrqRoutingType],
  ['KVM_GUESTDBG_', constants.GuestDebug],
  ['KVM_X86_DISABLE_EXITS_', constants.DisableExits],
  ['KVM_X86_QUIRK_', constants.Quirk],
  ['KVM_BUS_LOCK_DETECTION_', constants.BusLockDetection],
];

interface AnyStruct {
  readonly name: string;
  readonly size: number;
  readonly offsets: Readonly<Record<string, number>>;
  readonly fields: Readonly<Record<string, { readonly size: number }>>;
}

/** What the program should print, and the C expressions that make it do so. */
interface Probe {
  readonly label: string;
  readonly expected: number;
  readonly expression: string;
  readonly ifdef?: string;
}

function constantProbes(): Probe[] {
  return constantTables.flatMap(([prefix, table]) =>
    Object.entries(table).map(([key, expected]) => {
      const name = prefix + key;
      return { label: name, expected, expression: name, ifdef: name };
    }),
  );
}

function isStruct(value: unknown): value is AnyStruct {
  return typeof value === 'object' && value !== null && 'offsets' in value && 'name' in value;
}

const snake = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

/** `struct kvm_x` when it has a tag of its own; members of a tagged struct as `struct kvm_x` and a path. */
function structProbes(layout: AnyStruct): Probe[] {
  const [tag = '', ...path] = layout.name.split('.');
  const type = path.length === 0 ? `struct ${tag}` : `__typeof__(((struct ${tag} *)0)->${path.join('.')})`;
  // The end of kvm_run is not declared: `s`, a union of 2048 bytes.
  const size: Probe[] =
    layout.name === 'kvm_run'
      ? []
      : [{ label: `sizeof ${layout.name}`, expected: layout.size, expression: `sizeof(${type})` }];
  const members = Object.keys(layout.fields).flatMap((field): Probe[] => {
    const member = layout.fields[field];
    const name = snake(field);
    const label = `${layout.name}.${name}`;
    return [
      { label, expected: layout.offsets[field] ?? -1, expression: `__builtin_offsetof(${type}, ${name})` },
      { label: `sizeof ${label}`, expected: member?.size ?? -1, expression: `sizeof(((${type} *)0)->${name})` },
      ...(isStruct(member) ? structProbes(member) : []),
    ];
  });
  return [...size, ...members];
}

function allProbes(): Probe[] {
  const { memoryFault, ...union } = layouts.kvmRunUnion;
  const declared: unknown[] = [...Object.values(layouts), ...Object.values(union)];
  return [
    ...constantProbes(),
    ...declared.filter(isStruct).flatMap(structProbes),
    ...structProbes(memoryFault).map((probe) => ({ ...probe, ifdef: 'KVM_EXIT_MEMORY_FAULT' })),
    { label: 's.regs', expected: layouts.kvmRun.size, expression: '__builtin_offsetof(struct kvm_run, s.regs)' },
    { label: 'union', expected: layouts.kvmRun.offsets.padding, expression: '__builtin_offsetof(struct kvm_run, hw)' },
  ];
}

function program(probes: readonly Probe[]): string {
  const lines = probes.map(({ label, expression, ifdef }) => {
    const print = `printf("%s\\t%llu\\n", "${label}", (unsigned long long)(${expression}));`;
    return ifdef === undefined ? print : `#ifdef ${ifdef}\n${print}\n#endif`;
  });
  return `#include <stdio.h>\n#include <linux/kvm.h>\nint main(void) {\n${lines.join('\n')}\nreturn 0;\n}\n`;
}

function compilerProblem(): string | undefined {
  const probe = spawnSync('cc', ['-fsyntax-only', '-xc', '-'], { input: '#include <linux/kvm.h>\n', encoding: 'utf8' });
  if (probe.error) return 'there is no C compiler (cc)';
  return probe.status === 0 ? undefined : 'there is no <linux/kvm.h> (Debian: linux-libc-dev)';
}

const problem = compilerProblem();

describe(`KVM's ABI${problem === undefined ? '' : ` (skipped: ${problem})`}`, () => {
  test.skipIf(problem !== undefined)('numbers, sizes and offsets are those of <linux/kvm.h>', () => {
    const directory = mkdtempSync(join(tmpdir(), 'apiary-abi-'));
    try {
      const probes = allProbes();
      const source = join(directory, 'abi.c');
      writeFileSync(source, program(probes));
      const compiled = spawnSync('cc', ['-w', '-o', join(directory, 'abi'), source], { encoding: 'utf8' });
      expect(compiled.stderr).toBe('');
      const { stdout } = spawnSync(join(directory, 'abi'), { encoding: 'utf8' });
      const found = new Map(
        stdout
          .trim()
          .split('\n')
          .map((line) => line.split('\t'))
          .map(([label = '', value = '']) => [label, Number(value)]),
      );

      const missing = probes.filter(({ label }) => !found.has(label)).map(({ label }) => label);
      expect(
        missing.filter((label) => !MAY_BE_UNKNOWN.includes(label) && !label.includes('kvm_run.memory_fault')),
      ).toEqual([]);
      const known = probes.filter(({ label }) => found.has(label));
      expect(Object.fromEntries(known.map(({ label }) => [label, found.get(label)]))).toEqual(
        Object.fromEntries(known.map(({ label, expected }) => [label, expected])),
      );
      expect(known.length).toBeGreaterThan(500);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
