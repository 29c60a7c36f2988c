/**
 * The map against the scan. Both answer the same question, and may differ only where KVM means them to (or where it does
 * and everybody has got used to it). Each such difference has a name and a reason here, and a test in
 * test/unit/conform/map-and-scan.test.ts; anything else is a failure.
 *
 * Only who is meant is compared. What lowest priority makes of it differs by design: the map hashes over the addressed
 * bits, the scan over the software-enabled APICs that it found.
 */
import { type ApicMessage, type ApicSystem, type LocalApic, REG, SPIV, STATE_BYTES } from '../apic/index.ts';

export const INTENDED = {
  'aliased-id':
    'gate on: of the APICs in xAPIC mode that share an 8-bit ID only the mapped one is addressed (the hotplug hack)',
  'mapped-0xff':
    'an x2APIC IPI to 0xff (or, quirk disabled, anything to 0xff when all logical IDs are x2APIC) is for ID 0xff; the scan makes it a broadcast to xAPIC-mode APICs',
  'unmapped-broadcast':
    'quirk on: the map does not know 0xffffffff from a device or an xAPIC IPI as broadcast and answers nobody; the scan takes it as one for x2APIC-mode APICs',
  'wide-id-without-gate':
    'gate off: the map enters an xAPIC-mode APIC by its 8-bit ID only; the scan compares a destination over 0xff with the x2APIC ID whatever the gate says',
  'software-disabled':
    'a software-disabled APIC is in no logical map; the scan finds it (and NMI, INIT and SIPI then reach it)',
  'odd-dfr': 'the map takes every DFR but flat for cluster; the scan finds nobody for a DFR that is neither',
  'wide-logical': 'the map looks at the low byte of a logical destination in cluster mode; the scan compares all of it',
  'x2apic-cluster-by-id':
    'the x2APIC logical map is the physical one: an APIC in xAPIC mode that is mapped by such an ID counts as a member',
  'legacy-last-alias': 'before Linux 6.3 the last APIC with a logical ID, and the lowest bit of several, is mapped',
} as const;
export type IntendedDifference = keyof typeof INTENDED;

/** One APIC that only one of the two addresses. */
export interface Difference {
  readonly vcpuIndex: number;
  readonly side: 'map' | 'scan';
  /** Null: not intended. */
  readonly name: IntendedDifference | null;
}

const XAPIC_BROADCAST = 0xff;
const X2APIC_BROADCAST = 0xffffffff;

/** Every APIC that only the map or only the scan addresses; undefined when the map has no answer. */
export function differences(system: ApicSystem, message: ApicMessage): Difference[] | undefined {
  const { map, scan } = system.explain({ ...message, deliveryMode: 0, redirectionHint: false });
  if (map === null) return undefined;
  if (map.length === 0 && scan.length === 0) return [];
  const list: Difference[] = [];
  const add = (vcpuIndex: number, side: Difference['side']): void => {
    list.push({ vcpuIndex, side, name: nameOf(system, map, message, vcpuIndex, side) });
  };
  for (const { vcpuIndex } of scan) if (!map.includes(vcpuIndex)) add(vcpuIndex, 'scan');
  for (const vcpuIndex of map) if (!scan.some((match) => match.vcpuIndex === vcpuIndex)) add(vcpuIndex, 'map');
  return list;
}

/** What routing looks at in one APIC. */
export interface Identity {
  readonly x2apic: boolean;
  readonly present: boolean;
  readonly softwareEnabled: boolean;
  readonly x2apicId: number;
  /** ID, LDR: bits 31:24. */
  readonly xapicId: number;
  readonly logicalId: number;
  readonly ldr: number;
  readonly dfr: number;
}

const page = new DataView(new ArrayBuffer(STATE_BYTES));

export function identityOf(apic: LocalApic): Identity {
  apic.getState(new Uint8Array(page.buffer));
  const ldr = page.getUint32(REG.LDR, true);
  return {
    x2apic: apic.mode === 'x2apic',
    present: apic.mode === 'x2apic' || apic.mode === 'xapic',
    softwareEnabled: (page.getUint32(REG.SPIV, true) & SPIV.ENABLE) !== 0,
    x2apicId: apic.apicId,
    xapicId: page.getUint32(REG.ID, true) >>> 24,
    logicalId: ldr >>> 24,
    ldr,
    dfr: page.getUint32(REG.DFR, true),
  };
}

export const DFR_FLAT = 0xffffffff;
export const DFR_CLUSTER = 0x0fffffff;

function nameOf(
  system: ApicSystem,
  map: readonly number[],
  message: ApicMessage,
  vcpuIndex: number,
  side: Difference['side'],
): IntendedDifference | null {
  const { behaviour, x2apicFormat, broadcastQuirkDisabled } = system.options;
  if (behaviour === 'hardware') return null;
  const { destination, logical = false, source = -1 } = message;
  const it = identityOf(system.apic(vcpuIndex));
  const fromX2apic = source >= 0 && system.apic(source).mode === 'x2apic';
  if (side === 'map') return logical ? onlyInLogicalMap(it, destination) : null;
  if (destination === XAPIC_BROADCAST && (fromX2apic || broadcastQuirkDisabled) && !it.x2apic) return 'mapped-0xff';
  if (destination === X2APIC_BROADCAST && !broadcastQuirkDisabled && !fromX2apic && it.x2apic)
    return 'unmapped-broadcast';
  if (logical) {
    if (!it.softwareEnabled) return 'software-disabled';
    return behaviour === 'kvm-legacy' && !it.x2apic ? 'legacy-last-alias' : null;
  }
  if (it.x2apic) return null;
  const hack = x2apicFormat || behaviour === 'kvm-legacy';
  if (hack && destination <= 0xff && destination === it.xapicId && map.length === 1) return 'aliased-id';
  return !hack && destination > 0xff && destination === it.x2apicId ? 'wide-id-without-gate' : null;
}

function onlyInLogicalMap(it: Identity, destination: number): IntendedDifference | null {
  if (!it.present || it.x2apic) return null;
  if (!(it.softwareEnabled && it.ldr !== 0)) {
    return isX2apicMember(it.x2apicId, destination) || isX2apicMember(it.xapicId, destination)
      ? 'x2apic-cluster-by-id'
      : null;
  }
  if (it.dfr !== DFR_FLAT && it.dfr !== DFR_CLUSTER) return 'odd-dfr';
  const sharesMember = (it.logicalId & destination & 0xf) !== 0;
  return it.dfr === DFR_CLUSTER && destination > 0xff && sharesMember ? 'wide-logical' : null;
}

/** Is this ID a member of the x2APIC logical destination? */
const isX2apicMember = (id: number, destination: number): boolean =>
  id >>> 4 === destination >>> 16 && (destination & (1 << (id & 0xf))) !== 0;
