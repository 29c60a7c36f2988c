/**
 * A vCPU without KVM: its guest is a script, a list of exits or a generator of them, and what a run loop gave it in between
 * can be read afterwards. It keeps KVM's rules for events (x86.c, inject_pending_event): one interrupt at a time, at most two
 * NMIs, the second waiting for the end of the first one's handler; and for KVM_RUN: it completes the exit before, and answers
 * -EINTR when it was kicked. It throws where a run loop breaks the contract of src/kvm/run.ts.
 *
 * For tests and for exploring schedules. Left out: what instructions do. A script says it.
 */
import type { ScriptedHost } from './scripted-host.ts';
import { ScriptedRun, type ScriptedStep } from './scripted-run.ts';
import { ScriptedDescriptor, ScriptedState } from './scripted-state.ts';
import type { VcpuBackend, VcpuDescriptor, VcpuRun } from './vcpu-backend.ts';

export { type ScriptedExit, type ScriptedStep, SPIN } from './scripted-run.ts';

export class ScriptedVcpu implements VcpuBackend {
  readonly vcpu: VcpuDescriptor;
  readonly run: VcpuRun;
  readonly #run: ScriptedRun;
  readonly #state = new ScriptedState();

  /** @param host of the thread that runs it @param steps what its KVM_RUNs come to, in order; past the last, `run` throws */
  constructor(host: ScriptedHost, steps: Iterable<ScriptedStep>) {
    this.vcpu = new ScriptedDescriptor(this.#state);
    this.#run = new ScriptedRun(this, this.#state, host, steps[Symbol.iterator]());
    this.run = this.#run;
  }

  /** What it was given: `nmi`, `interrupt 0x31`, `regs`, `sregs`, `msrs` ..., in order. */
  get given(): readonly string[] {
    return this.#state.given;
  }

  /** The events that its guest took: `NMI`, `0x31`, `#GP`, in order. */
  get taken(): readonly string[] {
    return this.#run.taken;
  }

  /** Returns of KVM_RUN so far, those that only completed an exit included. */
  get runs(): number {
    return this.#run.runs;
  }
}
