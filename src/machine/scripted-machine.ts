/**
 * A machine whose guests are scripts: no KVM, all else real. For tests (`script` of MachineOptions, `run --script`): a module
 * that exports `guest`, which the worker that is a vCPU's home calls for what its KVM_RUNs come to (loop/scripted-vcpu.ts).
 * Such a guest is never inside KVM_RUN for long, so no kick has to end it: a script may not use SPIN.
 */
import type { VcpuHandle, VmBackend } from './backend.ts';
import { ScriptedHost } from './loop/scripted-host.ts';
import type { ScriptedStep } from './loop/scripted-run.ts';
import { ScriptedDescriptor, ScriptedState } from './loop/scripted-state.ts';
import { ScriptedVcpu } from './loop/scripted-vcpu.ts';
import type { VcpuBackend } from './loop/vcpu-backend.ts';
import type { CpuHandle } from './shared/messages.ts';

const TSC_KHZ = 1_000_000;
const ADDRESS_BITS = 46;

export interface Script {
  /** @param ram guest memory from guest-physical address 0 */
  guest(cpu: CpuHandle, ram: Uint8Array): Iterable<ScriptedStep>;
}

export class ScriptedVm implements VmBackend {
  readonly limits = { maxVcpus: 4096, maxVcpuId: 16_384 };
  readonly runSize = 4096;
  readonly savableMsrs = [];
  readonly fd = -1;
  readonly extendedDestinations = true;

  create(): void {}
  tscKhz(): number {
    return TSC_KHZ;
  }
  apicCpuid(): ReturnType<VmBackend['apicCpuid']> {
    return { x2apicCpuid: true, tscDeadlineCpuid: true, physicalAddressBits: ADDRESS_BITS, intelCompatible: true };
  }
  setMemory(): void {}
  createVcpu(): VcpuHandle {
    return Object.assign(new ScriptedDescriptor(new ScriptedState()), { fd: -1 });
  }
  close(): void {}
}

/** @param url of a module that is a Script. @returns what makes the vCPUs of this thread */
export async function scriptedVcpus(url: string, ram: Uint8Array): Promise<(cpu: CpuHandle) => VcpuBackend> {
  const script = (await import(url)) as Script;
  const host = new ScriptedHost();
  return (cpu) => new ScriptedVcpu(host, script.guest(cpu, ram));
}
