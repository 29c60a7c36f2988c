/**
 * Which CPUs the machine has: the APIC ID, index, home worker and hotplug slot of each, and whether it is plugged in.
 * Main thread. A vCPU that was removed is parked and comes back as itself, since KVM has no way to destroy one.
 */

import type { ApicSystem, LocalApicSnapshot } from '../apic/index.ts';
import { hex } from '../hex.ts';
import type { VcpuState } from '../inspect/snapshot.ts';
import type { VcpuHandle, VmBackend } from './backend.ts';
import { ConfigError } from './errors.ts';
import { applyFirmwareState, captureResetState, type ResetState } from './loop/cpu-state.ts';
import { kernelLapicSnapshot } from './loop/kernel-lapic.ts';
import type { MachineConfig } from './options.ts';
import { RUN_STATE_NAME, type SharedState } from './shared/shared.ts';
import type { WorkerPool } from './worker-pool.ts';

interface CpuEntry {
  readonly apicId: number;
  readonly slot: number;
  present: boolean;
  /** Absent until the CPU is first plugged in. */
  made?: { readonly vcpuIndex: number; readonly vcpu: VcpuHandle; readonly worker: number };
  /** Resolves when an ejected vCPU has been parked. */
  parked: Promise<void>;
}

export class CpuTable {
  readonly #vm: VmBackend;
  readonly #system: ApicSystem | null;
  readonly #shared: SharedState;
  readonly #pool: WorkerPool;
  readonly #config: MachineConfig;
  /** In slot order. */
  readonly #entries: CpuEntry[] = [];
  /** APIC IDs by vCPU index: each event of a trace asks for one. */
  readonly #apicIds: number[] = [];
  /** Of the first vCPU, before anything else: taken here, while the threads are still starting. */
  #reset: ResetState | undefined;

  constructor(vm: VmBackend, system: ApicSystem | null, shared: SharedState, pool: WorkerPool, config: MachineConfig) {
    this.#vm = vm;
    this.#system = system;
    this.#shared = shared;
    this.#pool = pool;
    this.#config = config;
  }

  /** Makes the boot-time vCPUs and tells the workers of them and of every slot. */
  async addBootCpus(): Promise<void> {
    for (const apicId of this.#config.cpus) this.#addEntry(apicId, true);
    for (const apicId of this.#config.hotpluggable) this.#addEntry(apicId, false);
    this.#postSlots(this.#entries);
    const perWorker = new Map<number, CpuEntry[]>();
    for (const entry of this.#entries) {
      if (!entry.present) continue;
      const worker = this.#make(entry);
      const others = perWorker.get(worker);
      if (others) others.push(entry);
      else perWorker.set(worker, [entry]);
    }
    await Promise.all([...perWorker].map(([worker, entries]) => this.#announce(worker, entries)));
  }

  async hotplug(apicId: number): Promise<void> {
    let entry = this.#find(apicId);
    if (entry?.present) throw new ConfigError(`APIC ID ${hex(apicId)} is there already; unplug it first`);
    if (!entry) {
      if (this.#apicIds.length >= this.#shared.maxVcpus) {
        const { maxVcpus } = this.#shared;
        const why =
          maxVcpus < this.#vm.limits.maxVcpus
            ? `this machine has ${maxVcpus} vCPUs at most; name more of them in hotpluggable`
            : `this host's KVM runs up to ${maxVcpus} vCPUs in one VM`;
        throw new ConfigError(`no room for APIC ID ${hex(apicId)}: ${why}`);
      }
      entry = this.#addEntry(apicId, false);
      this.#postSlots([entry]);
    }
    entry.present = true; // at once: a second call must not make it twice
    try {
      await entry.parked;
      if (entry.made) await this.#pool.request(entry.made.worker, { type: 'unpark', vcpuIndex: entry.made.vcpuIndex });
      else await this.#announce(this.#make(entry), [entry]);
    } catch (error) {
      entry.present = false;
      throw error;
    }
    await this.#pool.request(0, { type: 'plug', slot: entry.slot });
  }

  async unplug(apicId: number): Promise<void> {
    const entry = this.#find(apicId);
    if (!entry?.present) throw new ConfigError(`APIC ID ${hex(apicId)} is not there; nothing to unplug`);
    if (entry.slot === 0) throw new ConfigError(`APIC ID ${hex(apicId)} is the boot CPU; it cannot be unplugged`);
    await this.#pool.request(0, { type: 'unplug', slot: entry.slot });
  }

  /** The guest ejected the CPU in `slot`. @returns its APIC ID, once the vCPU is parked */
  async ejected(slot: number): Promise<number> {
    const entry = this.#entries[slot];
    entry.present = false;
    if (entry.made) {
      const { worker, vcpuIndex } = entry.made;
      entry.parked = this.#pool.request(worker, { type: 'park', vcpuIndex });
    }
    await entry.parked;
    return entry.apicId;
  }

  /** Every vCPU made so far, plugged in or not, in the order of their indexes, as its worker published it last. */
  made(): { readonly vcpuIndex: number; readonly apicId: number; readonly state: VcpuState }[] {
    const made = this.#entries.flatMap(({ apicId, made }) => (made ? [{ apicId, vcpuIndex: made.vcpuIndex }] : []));
    return made
      .sort((a, b) => a.vcpuIndex - b.vcpuIndex)
      .map((vcpu) => ({ ...vcpu, state: RUN_STATE_NAME[this.#shared.runState(vcpu.vcpuIndex)] }));
  }

  apicIdOfSlot(slot: number): number {
    return this.#entries[slot].apicId;
  }

  /** In the order of their vCPU indexes. */
  present(): number[] {
    const index = (entry: CpuEntry): number => entry.made?.vcpuIndex ?? this.#apicIds.length;
    const present = this.#entries.filter((entry) => entry.present).sort((a, b) => index(a) - index(b));
    return present.map(({ apicId }) => apicId);
  }

  /** @returns undefined when no vCPU has this index. */
  apicIdOfVcpu(vcpuIndex: number): number | undefined {
    return this.#apicIds[vcpuIndex];
  }

  lapic(apicId: number): LocalApicSnapshot {
    const entry = this.#find(apicId);
    if (!entry?.present || !entry.made) throw new ConfigError(`there is no CPU with APIC ID ${hex(apicId)}`);
    const { vcpu, vcpuIndex, worker } = entry.made;
    if (this.#system) return this.#system.apic(vcpuIndex).snapshot();
    const { use32bitIds } = this.#config;
    return this.#pool.whilePaused(worker, () =>
      kernelLapicSnapshot(vcpu, { vcpuIndex, apicId, use32bitIds, nowNanos: this.#shared.host.nowNanos() }),
    );
  }

  #find(apicId: number): CpuEntry | undefined {
    return this.#entries.find((entry) => entry.apicId === apicId);
  }

  #addEntry(apicId: number, present: boolean): CpuEntry {
    const entry: CpuEntry = { apicId, slot: this.#entries.length, present, parked: Promise.resolve() };
    this.#entries.push(entry);
    return entry;
  }

  #postSlots(entries: readonly CpuEntry[]): void {
    this.#pool.post(0, {
      type: 'slots',
      slots: entries.map(({ apicId, present }) => ({ apicId, enabled: present })),
    });
  }

  /** Creates the vCPU and its local APIC and chooses its home. @returns the home worker */
  #make(entry: CpuEntry): number {
    const vcpu = this.#vm.createVcpu(entry.apicId);
    this.#reset ??= makeResetState(vcpu, this.#vm.savableMsrs);
    const vcpuIndex = this.#apicIds.push(entry.apicId) - 1;
    this.#system?.addApic(entry.apicId, { bootstrap: vcpuIndex === 0 });
    // A halted vCPU on KVM's own APIC blocks its thread, so there each has a worker of its own.
    const mayGrow = this.#system === null || this.#pool.size < this.#config.threads;
    const needsWorker = vcpuIndex >= this.#pool.size && mayGrow;
    const worker = needsWorker ? this.#pool.grow() : vcpuIndex % this.#pool.size;
    this.#shared.setHome(vcpuIndex, worker);
    entry.made = { vcpuIndex, vcpu, worker };
    return worker;
  }

  #announce(worker: number, entries: readonly CpuEntry[]): Promise<void> {
    const cpus = entries.flatMap(({ apicId, made }) =>
      made ? [{ vcpuIndex: made.vcpuIndex, apicId, fd: made.vcpu.fd, bootstrap: made.vcpuIndex === 0 }] : [],
    );
    if (!this.#reset) throw new Error('no vCPU has been made');
    return this.#pool.request(worker, { type: 'cpus', cpus, reset: this.#reset });
  }
}

/** @param savable KVM_GET_MSR_INDEX_LIST */
function makeResetState(vcpu: VcpuHandle, savable: readonly number[]): ResetState {
  applyFirmwareState(vcpu);
  return captureResetState(vcpu, savable);
}
