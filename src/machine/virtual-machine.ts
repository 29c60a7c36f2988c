/**
 * The VM as KVM has it: its descriptors, what is switched on for whose local APICs, memory, and the making of vCPUs.
 * Main thread only; workers get descriptors by number.
 */

import { Cap, type CpuidEntry, System, type Vcpu, type Vm, X2apicFlag } from '../kvm/index.ts';
import { GSI_COUNT } from '../platform.ts';
import type { VmBackend } from './backend.ts';
import { apicCpuid, type CpuModel, cpuidFor, cpuModel, offersExtendedDestinations } from './cpuid/cpuid.ts';
import { ConfigError } from './errors.ts';
import type { HostLimits, MachineConfig } from './options.ts';
import type { GuestMemory } from './shared/guest-memory.ts';

/** Three pages below 4 GiB that VMX needs for itself (KVM_SET_TSS_ADDR), and one for its identity map. */
export const TSS_ADDRESS = 0xfffb_d000;
export const IDENTITY_MAP_ADDRESS = 0xfffb_c000;
/** KVM_SET_USER_MEMORY_REGION: bits 31:16 of a slot are its address space; 1 is SMM's. */
const ADDRESS_SPACE_SHIFT = 16;
/** Bits an APIC ID takes in CPUID even if the highest ID is lower, so that IDs hot-added later still fit. */
const MIN_TOPOLOGY_ID = 0xff;

export class VirtualMachine implements VmBackend {
  readonly limits: Omit<HostLimits, 'cores'>;
  readonly runSize: number;
  /** KVM_GET_MSR_INDEX_LIST. */
  readonly savableMsrs: readonly number[];
  readonly #system: System;
  readonly #supported: CpuidEntry[];
  readonly #vcpus: Vcpu[] = [];
  #vm: Vm | undefined;
  #model: CpuModel | undefined;
  #closed = false;
  #addressSpaces = 1;
  #tscKhz = 0;
  #topologyId = MIN_TOPOLOGY_ID;
  #cpus = 1;

  /** @throws KvmError when /dev/kvm cannot be opened */
  static open(): VirtualMachine {
    return new VirtualMachine(System.open());
  }

  private constructor(system: System) {
    this.#system = system;
    this.limits = {
      maxVcpus: system.checkExtension(Cap.MAX_VCPUS),
      maxVcpuId: system.checkExtension(Cap.MAX_VCPU_ID),
    };
    this.runSize = system.getVcpuMmapSize();
    this.savableMsrs = system.getMsrIndexList();
    this.#supported = system.getSupportedCpuid();
  }

  create(config: MachineConfig): void {
    this.#cpus = config.cpus.length + config.hotpluggable.length;
    this.#topologyId = Math.max(MIN_TOPOLOGY_ID, ...config.cpus, ...config.hotpluggable);
    const vm = this.#system.createVm();
    this.#vm = vm;
    this.#tscKhz = this.#system.tscKhz(vm);
    this.#model = cpuModel(this.#supported, config.cpu, {
      userApic: config.apic === 'user',
      tscKhz: this.#tscKhz,
      extendedDestinations: config.use32bitIds,
    });
    vm.setTssAddr(TSS_ADDRESS);
    vm.setIdentityMapAddr(IDENTITY_MAP_ADDRESS);
    if (config.apic === 'kernel') {
      vm.setBootCpuId(config.cpus[0]);
      vm.enableCap(Cap.SPLIT_IRQCHIP, GSI_COUNT);
      const flags =
        (config.use32bitIds ? X2apicFlag.API_USE_32BIT_IDS : 0) |
        (config.disableBroadcastQuirk ? X2apicFlag.API_DISABLE_BROADCAST_QUIRK : 0);
      if (flags !== 0) vm.enableCap(Cap.X2APIC_API, flags);
      this.#addressSpaces = Math.max(1, vm.checkExtension(Cap.MULTI_ADDRESS_SPACE));
    } else {
      vm.trapApicMsrs();
    }
  }

  /** Frequency of the guests' TSC. */
  tscKhz(): number {
    return this.#tscKhz;
  }

  /** The guests' CPUID as far as their APICs follow it. */
  apicCpuid(): ReturnType<typeof apicCpuid> {
    if (!this.#model) throw new Error('the VM has not been created');
    return apicCpuid(this.#model);
  }

  /** The guests' CPUID says that the I/O APIC's entries have destinations of 15 bits. */
  get extendedDestinations(): boolean {
    return this.#model !== undefined && offersExtendedDestinations(this.#model);
  }

  get fd(): number {
    return this.#created().fd;
  }

  /**
   * Guest RAM, or another piece of memory in a slot of its own. With APICs in the kernel a guest can send itself an SMI, and
   * SMM has an address space of its own where KVM saves the CPU's state: without memory there KVM declares the whole VM dead,
   * and every ioctl answers EIO. So SMM sees the same memory; what it finds at 0x38000 is the guest's business.
   */
  setMemory(memory: GuestMemory, slot = 0, gpa = 0): void {
    const vm = this.#created();
    for (let space = 0; space < this.#addressSpaces; space++) {
      vm.setUserMemoryRegion(slot | (space << ADDRESS_SPACE_SHIFT), gpa, memory.bytes);
    }
  }

  /** @throws KvmError when KVM refuses (descriptors, memory, limits) */
  createVcpu(apicId: number): Vcpu {
    if (this.#closed) throw new ConfigError('the machine has ended');
    const vcpu = this.#created().createVcpu(apicId);
    this.#vcpus.push(vcpu);
    const maxApicId = Math.max(this.#topologyId, apicId);
    if (this.#model) vcpu.setCpuid2(cpuidFor(this.#model, { apicId, maxApicId, cpus: this.#cpus }));
    return vcpu;
  }

  /** Closes every descriptor; the VM goes with the last one. Workers have ended before. Twice is harmless. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const vcpu of this.#vcpus) vcpu.close();
    this.#vm?.close();
    this.#system.close();
  }

  #created(): Vm {
    if (!this.#vm) throw new Error('the VM has not been created');
    return this.#vm;
  }
}
