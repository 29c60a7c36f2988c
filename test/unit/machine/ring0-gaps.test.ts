/** What doctor asks of a KVM that may interpret ring 0: what becomes of a probe, and that its bytes are what they claim. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ExitReason } from '../../../src/kvm/constants.ts';
import { ScriptedHost } from '../../../src/machine/loop/scripted-host.ts';
import { type ScriptedStep, ScriptedVcpu, SPIN } from '../../../src/machine/loop/scripted-vcpu.ts';
import { PROBES, runProbe } from '../../../src/machine/ring0-gaps.ts';

const DONE: ScriptedStep = { exitReason: ExitReason.IO, ioIsOut: true, ioPort: 0xf4, ioData: [0x5a] };
const EFAULT = 14;

function outcome(steps: ScriptedStep[], host = new ScriptedHost()): string | undefined {
  return runProbe(new ScriptedVcpu(host, steps).run, host);
}

describe('a probe', () => {
  it('that gets to its end shows no gap', () => {
    expect(outcome([DONE])).toBeUndefined();
  });

  it.each<[string, ScriptedStep, string]>([
    ['an internal error', { exitReason: ExitReason.INTERNAL_ERROR, internalSuberror: 1 }, 'KVM_EXIT_INTERNAL_ERROR'],
    ['an exception, without an IDT', { exitReason: ExitReason.SHUTDOWN }, 'KVM_EXIT_SHUTDOWN'],
    ['HLT before the end', { exitReason: ExitReason.HLT }, 'KVM_EXIT_HLT'],
    ['another value', { ...DONE, ioData: [0x5b] }, 'KVM_EXIT_IO'],
    ['another port', { ...DONE, ioPort: 0xf5 }, 'KVM_EXIT_IO'],
    ['a read of the port', { ...DONE, ioIsOut: false }, 'KVM_EXIT_IO'],
    ['a KVM_RUN that the host refuses', -EFAULT, 'EFAULT'],
  ])('that comes to %s does', (_what, step, expected) => {
    expect(outcome([step])).toBe(expected);
  });

  it('that spins is ended by the timer after a second', () => {
    const host = new ScriptedHost();
    expect(outcome([SPIN], host)).toBe('no end within 1 s');
    expect(host.now).toBe(1e9);
  });

  it("goes on after a kick that is not its timer's, and leaves no timer behind", () => {
    const host = new ScriptedHost();
    host.kicked = true;
    expect(outcome([DONE], host)).toBeUndefined();
    expect(host.armed).toBe(Number.POSITIVE_INFINITY);
  });
});

/** 32-bit code by GNU as, AT&T syntax. */
function assembled(source: string): number[] {
  const directory = mkdtempSync(join(tmpdir(), 'apiary-'));
  try {
    const [object, flat] = [join(directory, 'o'), join(directory, 'bin')];
    const as = spawnSync('as', ['--32', '-o', object, '-'], { input: source, encoding: 'utf8' });
    expect(as.stderr).toBe('');
    expect(spawnSync('objcopy', ['-O', 'binary', '-j', '.text', object, flat]).status).toBe(0);
    return [...readFileSync(flat)];
  } finally {
    rmSync(directory, { recursive: true });
  }
}

describe('the programs', () => {
  it.each([
    [false, 'vmcall'],
    [true, 'vmmcall'],
  ])('do what they are there for (AMD: %s)', (isAmd, hypercall) => {
    expect(PROBES.map(({ code }) => code(isAmd))).toEqual([
      assembled('fninit; fld1; fstps 0x3000; xorps %xmm0, %xmm0; movups %xmm0, 0x3010\n'),
      assembled(`
        movl $0x83, 0x2000
        mov %cr4, %eax; or $0x10, %eax; mov %eax, %cr4
        mov $0x2000, %eax; mov %eax, %cr3
        mov %cr0, %eax; or $0x80000000, %eax; mov %eax, %cr0
      `),
      assembled(`mov $1, %eax; ${hypercall}\n`),
    ]);
  });
});
