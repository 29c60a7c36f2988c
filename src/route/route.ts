/**
 * One message on a machine that is described in a few words, without KVM or a guest: who takes it, by the map or by a scan,
 * and why each other APIC does not. The answers are the router's own (`ApicSystem.explain`, `deliver`); what is added here is
 * why somebody is not among them.
 */
import {
  type ApicMessage,
  type ApicMode,
  ApicSystem,
  type ApicSystemOptions,
  DELIVERY,
  DELIVERY_NAMES,
  DFR,
  type LocalApic,
  MAP_DIFFERENCES,
  REG,
} from '../apic/index.ts';
import { hex } from '../hex.ts';

export interface RouteCpu {
  readonly apicId: number;
  readonly mode: ApicMode;
  /** SPIV bit 8. */
  readonly softwareEnabled: boolean;
  /** Bits 31:24 of LDR, in xAPIC mode. */
  readonly logicalId: number;
  readonly cluster: boolean;
  /** Bits 31:24 of the xAPIC ID register; default the APIC ID's low byte. */
  readonly xapicId?: number | undefined;
  /** TPR, 0-255; default 0. */
  readonly tpr?: number | undefined;
  /** A vector in service, 0x10-0xff; default none. */
  readonly inService?: number | undefined;
}

export interface RouteQuestion {
  readonly cpus: readonly RouteCpu[];
  /** APIC ID of the sender; undefined: a device, by MSI. */
  readonly from?: number | undefined;
  /** 0-0xffffffff. */
  readonly to: number;
  readonly logical: boolean;
  /** DELIVERY. */
  readonly deliveryMode: number;
  readonly vector: number;
}

export interface RoutedCpu {
  readonly apicId: number;
  readonly mode: ApicMode;
  /** 0-255: TPR, or the class of what is in service where that is higher (SDM vol. 3A, 12.8.3.1). */
  readonly ppr: number;
  readonly takes: boolean;
  readonly why: string;
}

type Verdict = Pick<RoutedCpu, 'takes' | 'why'>;

export interface RouteAnswer {
  readonly path: 'self' | 'map' | 'scan';
  /** Why it is a scan, or what the map is like. */
  readonly map: string;
  /** What KVM_SIGNAL_MSI would answer: how many took it, -1 when a scan met nobody. */
  readonly answer: number;
  readonly cpus: readonly RoutedCpu[];
  /** What the sender cannot say, and what it says instead. */
  readonly note: string | undefined;
}

/** @throws RangeError for a sender that is not there, an ID that is given twice or out of range */
export function route(question: RouteQuestion, options: ApicSystemOptions): RouteAnswer {
  const { cpus, from, logical, deliveryMode, vector } = question;
  const most = Math.max(...cpus.map(({ apicId }) => apicId));
  const sizes = { maxApics: cpus.length, maxApicId: Math.max(most, 0xff), shared: false };
  const system = new ApicSystem({ ...options, ...sizes });
  for (const cpu of cpus) make(system, cpu);
  const source = from === undefined ? undefined : cpus.findIndex(({ apicId }) => apicId === from);
  if (source === -1) throw new RangeError(`there is no CPU ${hex(from ?? 0)} to send from`);
  const { destination, note } = addressed(question, system, source);
  const message: ApicMessage = { ...(source !== undefined && { source }), destination, logical, deliveryMode, vector };
  const { path, targets, scan } = system.explain(message);
  const differences = system.differences(message);
  const { state, reason, logicalMode } = system.map();
  const priorities = cpus.map((_, i) => system.apic(i).snapshot().registers.PPR ?? 0);
  const answer = system.deliver(message);
  return {
    path,
    map: state === 'disabled' ? `there is no map: ${reason}` : `logical map: ${logicalMode}`,
    answer,
    note,
    cpus: cpus.map(({ apicId, mode, softwareEnabled }, i) => {
      const apic = system.apic(i);
      const verdict = (): Verdict => {
        const target = targets.find(({ vcpuIndex }) => vcpuIndex === i);
        if (target !== undefined) {
          const takes = took(apic, deliveryMode, vector);
          return { takes, why: takes ? target.why : whyRefused(softwareEnabled, deliveryMode) };
        }
        const found = scan.find(({ vcpuIndex }) => vcpuIndex === i);
        const name = differences.find(({ vcpuIndex }) => vcpuIndex === i)?.name;
        if (found === undefined) return { takes: false, why: whyNoMatch(apic, destination, logical) };
        const missed = name == null ? found.why : MAP_DIFFERENCES[name];
        const why =
          path === 'map' && name != null ? `a scan would find it; ${missed}` : 'a candidate, and not the one picked';
        return { takes: false, why };
      };
      return { apicId, mode, ppr: priorities[i], ...verdict() };
    }),
  };
}

const X2APIC_BASE = 0xfee00c00;
const XAPIC_OFF_BASE = 0xfee00000;
const DISABLED_SPIV = 0xff;
const ENABLED_SPIV = 0x1ff;
const TO_ITSELF = 0x4_4000;

function make(system: ApicSystem, cpu: RouteCpu): void {
  const apic = system.addApic(cpu.apicId);
  apic.writeMmio(REG.SPIV, 4, ENABLED_SPIV);
  if (cpu.inService !== undefined) {
    apic.writeMmio(REG.ICR, 4, TO_ITSELF | cpu.inService);
    apic.acknowledge();
  }
  apic.writeMmio(REG.TPR, 4, cpu.tpr ?? 0);
  apic.writeMmio(REG.SPIV, 4, cpu.softwareEnabled ? ENABLED_SPIV : DISABLED_SPIV);
  if (cpu.xapicId !== undefined) apic.writeMmio(REG.ID, 4, cpu.xapicId * 2 ** 24);
  apic.writeMmio(REG.LDR, 4, cpu.logicalId * 2 ** 24);
  apic.writeMmio(REG.DFR, 4, cpu.cluster ? DFR.CLUSTER : DFR.FLAT);
  if (cpu.mode === 'x2apic') apic.setApicBaseFromHost(X2APIC_BASE, 0);
  if (cpu.mode === 'disabled') apic.setApicBaseFromHost(XAPIC_OFF_BASE, 0);
}

/** A sender in xAPIC mode has eight destination bits, and so has an MSI with the gate off. */
function addressed(
  { to }: RouteQuestion,
  system: ApicSystem,
  source: number | undefined,
): { destination: number; note?: string } {
  const wide = source === undefined ? system.options.x2apicFormat : system.apic(source).mode === 'x2apic';
  if (wide || to <= 0xff) return { destination: to };
  const who = source === undefined ? 'an MSI with the gate off' : 'a sender in xAPIC mode';
  return { destination: to & 0xff, note: `${who} has eight destination bits: ${hex(to)} is sent as ${hex(to & 0xff)}` };
}

function took(apic: LocalApic, deliveryMode: number, vector: number): boolean {
  const { requested, pending } = apic.snapshot();
  if (deliveryMode === DELIVERY.FIXED || deliveryMode === DELIVERY.LOWEST) return requested.includes(vector);
  return pending.nmis > 0 || pending.events !== 0;
}

const whyRefused = (softwareEnabled: boolean, deliveryMode: number): string =>
  softwareEnabled
    ? `addressed, but nobody takes ${DELIVERY_NAMES[deliveryMode]}`
    : 'addressed, and software-disabled: takes no such interrupt';

function whyNoMatch(apic: LocalApic, destination: number, logical: boolean): string {
  const { mode, effectiveId, registers } = apic.snapshot();
  if (mode !== 'xapic' && mode !== 'x2apic') return 'its APIC is off';
  if (!logical) return `its ${mode === 'x2apic' ? 'x2APIC' : 'xAPIC'} ID is ${hex(effectiveId)}`;
  const ldr = registers.LDR ?? 0;
  return mode === 'x2apic'
    ? `its logical ID is ${hex(ldr)}: cluster or member bits differ from ${hex(destination)}`
    : `its logical ID is ${hex(ldr >>> 24)}, ${(registers.DFR ?? 0) >>> 0 === DFR.FLAT >>> 0 ? 'flat' : 'cluster'}`;
}
