/**
 * How a machine is looked at while it runs: each worker tells of its vCPUs and, on worker 0, of the interrupt controllers;
 * main puts that beside the local APICs' shared memory and has a snapshot (src/inspect/). A worker answers between two runs
 * of a vCPU, so what it tells is exact; the rest of the machine may be running meanwhile.
 */
import { type ApicSystem, FROM_DEVICE, inWords, type LocalApicSnapshot } from '../apic/index.ts';
import type { RedirectionEntry } from '../devices/ioapic.ts';
import { collectVcpu, type VcpuFacts } from '../inspect/collect.ts';
import type { IoApicPin, MachineSnapshot, PicView, VcpuSnapshot, VcpuState } from '../inspect/snapshot.ts';
import { MpState } from '../kvm/index.ts';
import type { Cpu } from './loop/cpu.ts';
import { kernelLapicSnapshot } from './loop/kernel-lapic.ts';
import { RUN_STATE_NAME, RunState } from './shared/shared.ts';

const LINT0_MASKED = 1 << 16;
const DELIVERY_MODE = 0x700;
const EXTINT = 0x700;

export interface VcpuInspection {
  readonly vcpuIndex: number;
  readonly apicId: number;
  readonly state: VcpuState;
  readonly rip: bigint;
  readonly interruptFlag: boolean;
  readonly exits?: number;
  /** With KVM's own APICs: what KVM has. */
  readonly kernelApic?: LocalApicSnapshot;
}

export interface BoardInspection {
  readonly ioapic: readonly RedirectionEntry[];
  readonly pic: PicView;
  /** Accesses that no device claimed. */
  readonly unclaimed: number;
}

export interface WorkerInspection {
  readonly vcpus: readonly VcpuInspection[];
  /** Worker 0's. */
  readonly board: BoardInspection | null;
}

/** On the vCPU's own worker, outside KVM_RUN: an ioctl, three with KVM's own APIC. */
export function inspectCpu(cpu: Cpu, use32bitIds: boolean, nowNanos: number): VcpuInspection {
  const { vcpuIndex, apicId, vcpu, run } = cpu;
  const { rip } = vcpu.getRegs();
  const state = RUN_STATE_NAME[cpu.interrupts.state];
  const exits = vcpu.exits();
  const counted = exits === undefined ? {} : { exits };
  const told = { vcpuIndex, apicId, state, rip, interruptFlag: run.ifFlag, ...counted };
  if (cpu.apic !== null) return told;
  const kernelApic = kernelLapicSnapshot(vcpu, { vcpuIndex, apicId, use32bitIds, nowNanos });
  return {
    ...told,
    kernelApic,
    state: cpu.interrupts.state === RunState.parked ? 'parked' : kernelState(vcpu.getMpState()),
  };
}

function kernelState(mpState: number): VcpuState {
  if (mpState === MpState.HALTED) return 'halted';
  return mpState === MpState.UNINITIALIZED || mpState === MpState.INIT_RECEIVED ? 'waiting for SIPI' : 'running';
}

export interface SnapshotParts {
  readonly nowNanos: number;
  readonly use32bitIds: boolean;
  /** Null with KVM's own APICs. */
  readonly system: ApicSystem | null;
  /** The vCPUs made so far, in the order of their indexes, with the state that their workers published. */
  readonly vcpus: readonly { readonly vcpuIndex: number; readonly apicId: number; readonly state: VcpuState }[];
  /** Of those workers that answered in time. */
  readonly told: readonly WorkerInspection[];
}

export function makeSnapshot({ nowNanos, use32bitIds, system, vcpus, told }: SnapshotParts): MachineSnapshot {
  const byIndex = new Map(told.flatMap((worker) => worker.vcpus).map((vcpu) => [vcpu.vcpuIndex, vcpu]));
  const board = told.find((worker) => worker.board !== null)?.board;
  return {
    nowNanos,
    x2apicFormat: use32bitIds,
    vcpus: vcpus.flatMap(({ vcpuIndex, state }): VcpuSnapshot[] => {
      const vcpu = byIndex.get(vcpuIndex);
      const facts: VcpuFacts = vcpu
        ? { ...vcpu, registers: { rip: vcpu.rip, interruptFlag: vcpu.interruptFlag } }
        : { state };
      if (system) return [collectVcpu(system, vcpuIndex, facts)];
      const apic = vcpu?.kernelApic;
      return apic ? [{ apicId: vcpu.apicId, ...facts, apic, acceptsPic: opensLint0(apic) }] : [];
    }),
    map: system?.map() ?? null,
    ioapic: (board?.ioapic ?? []).map((entry) => ioApicPin(entry, system)),
    pic: board?.pic ?? null,
    unclaimed: board?.unclaimed ?? 0,
  };
}

function opensLint0({ mode, registers }: LocalApicSnapshot): boolean {
  const lint0 = registers.LVT_LINT0 ?? 0;
  return mode === 'disabled' || ((lint0 & LINT0_MASKED) === 0 && (lint0 & DELIVERY_MODE) === EXTINT);
}

function ioApicPin(entry: RedirectionEntry, system: ApicSystem | null): IoApicPin {
  const { pin, destination, command, masked, levelTriggered, remoteIrr, pending } = entry;
  const targets = system ? system.explain(inWords(FROM_DEVICE, destination, command)).targets : [];
  return {
    pin,
    vector: command & 0xff,
    masked,
    levelTriggered,
    remoteIrr,
    pending,
    targets: targets.map(({ vcpuIndex }) => system?.apic(vcpuIndex).apicId ?? vcpuIndex),
  };
}
