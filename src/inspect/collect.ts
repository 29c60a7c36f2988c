/**
 * The parts of a snapshot that an ApicSystem gives: each CPU's APIC, and the message that its ICR still holds with whom that
 * would reach now. Any thread; it reads shared memory word by word, so it is exact when the vCPUs stand still.
 */

import { commandMode, commandShorthand, commandVector, isLogical, xapicDestination } from '../apic/fields.ts';
import { type ApicSystem, DELIVERY, type LocalApicSnapshot } from '../apic/index.ts';
import type { SentMessage, VcpuSnapshot } from './snapshot.ts';

/** What only the machine knows of a vCPU. */
export type VcpuFacts = Pick<VcpuSnapshot, 'state' | 'registers' | 'exits'>;

export function collectVcpu(system: ApicSystem, vcpuIndex: number, facts: VcpuFacts): VcpuSnapshot {
  const local = system.apic(vcpuIndex);
  const apic = local.snapshot();
  const sent = lastSent(system, apic);
  return {
    apicId: apic.apicId,
    state: facts.state,
    ...(facts.registers === undefined ? {} : { registers: facts.registers }),
    ...(facts.exits === undefined ? {} : { exits: facts.exits }),
    apic,
    acceptsPic: local.acceptsPic(),
    ...(sent === undefined ? {} : { sent }),
  };
}

function lastSent(system: ApicSystem, apic: LocalApicSnapshot): SentMessage | undefined {
  const { registers, mode, apicId, vcpuIndex } = apic;
  const low = registers.ICR ?? 0;
  const high = registers.ICR2 ?? 0;
  const deliveryMode = commandMode(low);
  if ((low === 0 && high === 0) || deliveryMode === DELIVERY.EXTINT || mode === 'disabled') return undefined;
  const message = {
    deliveryMode,
    vector: commandVector(low),
    destination: mode === 'x2apic' ? high : xapicDestination(high),
    logical: isLogical(low),
    shorthand: commandShorthand(low),
  };
  const { path, targets } = system.explain({ source: vcpuIndex, ...message });
  return {
    from: apicId,
    ...message,
    path,
    targets: targets.map((target) => system.apic(target.vcpuIndex).apicId),
  };
}
