/** INT3 and INT n that KVM could not interpret become events of the vCPU. KVM's structures as in <asm/kvm.h>. */
import { describe, expect, it } from 'vitest';
import type { Cpu } from '../../../src/machine/loop/cpu.ts';
import { deliverSoftwareInterrupt } from '../../../src/machine/loop/software-interrupts.ts';

const INTERNAL_ERROR = 17;
const EMULATION = 1;

function cpuAt(instruction: readonly number[], { exitReason = INTERNAL_ERROR, suberror = EMULATION, cs = 0x10 } = {}) {
  const state = {
    rip: 0x1000n,
    events: { exception: { injected: 0, nr: 0 }, interrupt: { injected: 0, nr: 0, soft: 0, shadow: 0 } },
    queued: 0,
  };
  const cpu = {
    vcpu: {
      getSregs: () => ({ cs: { selector: cs } }),
      getRegs: () => ({ rip: state.rip }),
      setRegs: ({ rip }: { rip: bigint }) => {
        state.rip = rip;
      },
      getVcpuEvents: () => state.events,
      setVcpuEvents: (events: typeof state.events) => {
        state.events = events;
      },
    },
    run: { exitReason, internalSuberror: suberror, internalInstructionBytes: () => Uint8Array.from(instruction) },
    interrupts: {
      eventQueued: () => {
        state.queued++;
      },
    },
  } as unknown as Cpu;
  return { delivered: deliverSoftwareInterrupt(cpu), ...state, state };
}

describe('a software interrupt that KVM does not know', () => {
  it('INT3 is exception 3 with RIP behind it, and keeps interrupts waiting', () => {
    const { delivered, state } = cpuAt([0xcc, 0x90]);
    expect(delivered).toBe(true);
    expect(state.rip).toBe(0x1001n);
    expect(state.events.exception).toMatchObject({ injected: 1, nr: 3, hasErrorCode: 0 });
    expect(state.events.interrupt.injected).toBe(0);
    expect(state.queued).toBe(1);
  });

  it('INT n is a soft interrupt with RIP behind it', () => {
    const { delivered, state } = cpuAt([0xcd, 0x21]);
    expect(delivered).toBe(true);
    expect(state.rip).toBe(0x1002n);
    expect(state.events.interrupt).toMatchObject({ injected: 1, nr: 0x21, soft: 1 });
    expect(state.events.exception.injected).toBe(0);
  });

  it.each([
    ['another instruction', [0x48, 0x0f, 0xae, 0x2f], {}],
    ['no instruction bytes', [], {}],
    ['half an INT n', [0xcd], {}],
    ['ring 3', [0xcc], { cs: 0x33 }],
    ['another internal error', [0xcc], { suberror: 3 }],
    ['another exit', [0xcc], { exitReason: 5 }],
  ])('leaves %s alone', (_what, instruction, options) => {
    const { delivered, state } = cpuAt(instruction, options);
    expect(delivered).toBe(false);
    expect(state.rip).toBe(0x1000n);
    expect(state.queued).toBe(0);
  });
});
