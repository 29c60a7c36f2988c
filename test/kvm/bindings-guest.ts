/**
 * A VM with a few bytes of real-mode code, for the tests of src/kvm. The code is at 0x1000, the stack below 0x8000, the
 * data segment's base is given. No library: what these tests need of KVM is what they test.
 */
import { bytesToPage, KvmError, type KvmRun, System, type Vcpu, type Vm } from 'apiary/kvm';

export const CODE = 0x1000;
const PAGE = 4096;

/** Why tests that need a guest cannot run here, or undefined. */
export function kvmProblem(): string | undefined {
  try {
    const system = System.open();
    system.createVm().close();
    system.close();
    return undefined;
  } catch (error) {
    if (error instanceof KvmError) return error.message;
    throw error;
  }
}

export interface Guest {
  readonly system: System;
  readonly vm: Vm;
  readonly vcpu: Vcpu;
  readonly run: KvmRun;
  /** Guest-physical memory, from address 0. */
  readonly memory: Uint8Array;
  close(): void;
}

export interface GuestOptions {
  /** Where the data segment begins. */
  readonly dataBase?: number;
  readonly ifFlag?: boolean;
  /** Called before the vCPU is made. */
  readonly configure?: (vm: Vm) => void;
}

/** @param code bytes as hex, spaces allowed */
export function makeGuest(code: string, { dataBase = 0, ifFlag = false, configure }: GuestOptions = {}): Guest {
  const system = System.open();
  const vm = system.createVm();
  vm.setTssAddr(0xfffb_d000);
  configure?.(vm);
  const bytes = 0x10000;
  const buffer = new SharedArrayBuffer(bytes + PAGE);
  const memory = new Uint8Array(buffer, bytesToPage(buffer), bytes);
  memory.set(Buffer.from(code.replaceAll(' ', ''), 'hex'), CODE);
  vm.setUserMemoryRegion(0, 0, memory);
  const vcpu = vm.createVcpu(0);
  vcpu.setCpuid2(system.getSupportedCpuid());
  const sregs = vcpu.getSregs();
  const ds = { ...sregs.ds, base: BigInt(dataBase), selector: (dataBase >> 4) & 0xffff };
  vcpu.setSregs({ ...sregs, cs: { ...sregs.cs, base: 0n, selector: 0 }, ds });
  vcpu.setRegs({ rip: BigInt(CODE), rsp: 0x8000n, rflags: ifFlag ? 0x202n : 2n });
  const run = vcpu.mapRun();
  const close = (): void => {
    run.unmap();
    vcpu.close();
    vm.close();
    system.close();
  };
  return { system, vm, vcpu, run, memory, close };
}
