/**
 * Where the map's answer and a scan's differ, and whether they may. KVM's map is an optimization that is not exact: each
 * way in which it departs from the scan has a name and a reason here, and a test in test/unit/apic/map.test.ts. A
 * difference without a name is a bug, in the map or in this list. Behaviour `hardware` has none: its map is exact.
 *
 * Compared are the sets of addressed APICs, before lowest priority picks one.
 */
import { LOGICAL } from './behaviour.ts';
import { asAddressed, BROADCAST, commandShorthand, DFR, isLogical, SHORTHAND, x2apicLogicalId } from './fields.ts';
import {
  destinationFormat,
  isSoftwareEnabled,
  isX2apicMode,
  logicalDestination,
  x2apicId,
  xapicId,
} from './identity.ts';
import { type ApicMemory, HEADER, MAP } from './layout.ts';
import { type ApicMessage, FROM_DEVICE, makeCommand } from './message.ts';
import { REASON } from './reasons.ts';
import { NO_ANSWER, type Router } from './router.ts';

export const MAP_DIFFERENCES = {
  'hotplug-alias': 'the hack: of several APICs with one 8-bit ID the map has one, a scan finds them all',
  'wide-id-without-gate':
    'gate off: the map knows an APIC in xAPIC mode by its 8-bit ID alone, a scan by its wide ID too',
  'broadcast-of-the-other-mode':
    'the map takes the broadcast ID of the other mode for an address, in a scan every APIC compares with its own',
  'software-disabled': 'the logical map has only software-enabled APICs, a scan does not ask',
  'odd-dfr': 'the map takes every DFR that is not flat for cluster, a scan matches neither',
  'physical-id-in-cluster': 'an x2APIC cluster is read from the physical map, whatever mode its members are in',
  'cluster-truncated': 'the map looks at four bits of an xAPIC cluster address, a scan at all',
  'legacy-logical-alias':
    'before Linux 6.3: of several APICs on one logical bit, or with several bits, the map has one entry',
  'legacy-id-of-a-state':
    'before Linux 6.11: in x2APIC mode the map has the ID that a state brought beside the own one, in a scan only LDR is it',
  'legacy-left-x2apic':
    'before Linux 6.3: when the host forces x2APIC to xAPIC mode the map stays, a scan compares the xAPIC ID',
} as const;

export type MapDifferenceName = keyof typeof MAP_DIFFERENCES;

export interface MapDifference {
  readonly vcpuIndex: number;
  /** Who alone addresses this vCPU. */
  readonly only: 'map' | 'scan';
  /** Null: nobody intended this. */
  readonly name: MapDifferenceName | null;
}

/** Every vCPU that the map and a scan disagree about. Empty also when the map has no answer, as then only a scan is made. */
export function findDifferences(memory: ApicMemory, router: Router, message: ApicMessage): MapDifference[] {
  const { source = FROM_DEVICE, destination } = message;
  const command = asAddressed(makeCommand(message));
  const answered =
    commandShorthand(command) === SHORTHAND.NONE ? router.lookUp(source, destination, command) : NO_ANSWER;
  if (answered === NO_ANSWER) return [];
  const { targets, reasons } = router;
  const map = targets.slice(0, answered);
  const found = router.scan(source, destination, command);
  const addressed = { destination, logical: isLogical(command) };
  const differences: MapDifference[] = [];
  for (const vcpuIndex of map) {
    const at = targets.indexOf(vcpuIndex);
    if (at >= 0 && at < found) continue;
    differences.push({ vcpuIndex, only: 'map', name: whyMapOnly(memory, vcpuIndex, addressed) });
  }
  for (let i = 0; i < found; i++) {
    const vcpuIndex = targets[i];
    if (map.includes(vcpuIndex)) continue;
    differences.push({ vcpuIndex, only: 'scan', name: whyScanOnly(memory, vcpuIndex, reasons[i], addressed) });
  }
  return differences;
}

type Addressed = Pick<Required<ApicMessage>, 'destination' | 'logical'>;

function whyMapOnly(memory: ApicMemory, vcpuIndex: number, m: Addressed): MapDifferenceName | null {
  const { words } = memory;
  const r = memory.identity(vcpuIndex);
  if (isStale(memory)) return 'legacy-left-x2apic';
  if (!m.logical || isX2apicMode(words, r)) return foreignIds(memory) ? 'legacy-id-of-a-state' : null;
  const map = memory.mapBuffer(Atomics.load(words, HEADER.MAP_PUBLISHED));
  if (words[map + MAP.LOGICAL_MODE] === LOGICAL.X2APIC) return 'physical-id-in-cluster';
  const format = destinationFormat(words, r);
  if (format !== DFR.FLAT && format !== DFR.CLUSTER) return 'odd-dfr';
  return format === DFR.CLUSTER && m.destination > BROADCAST.XAPIC ? 'cluster-truncated' : null;
}

function whyScanOnly(memory: ApicMemory, vcpuIndex: number, reason: number, m: Addressed): MapDifferenceName | null {
  const { words, options, rules } = memory;
  const r = memory.identity(vcpuIndex);
  if (reason === REASON.BROADCAST) return isBroadcast(m.destination) ? 'broadcast-of-the-other-mode' : null;
  if (isStale(memory)) return 'legacy-left-x2apic';
  if (foreignIds(memory)) return 'legacy-id-of-a-state';
  if (!m.logical) {
    const hack = options.x2apicFormat || !rules.gate;
    if (m.destination > BROADCAST.XAPIC) return hack ? null : 'wide-id-without-gate';
    return hack && !isX2apicMode(words, r) ? 'hotplug-alias' : null;
  }
  if (!isSoftwareEnabled(words, r)) return 'software-disabled';
  return !rules.logicalAlias && !isX2apicMode(words, r) ? 'legacy-logical-alias' : null;
}

/** May the map have an APIC as it was in x2APIC mode? Then its logical mode may be of that time too, for all of them. */
function isStale(memory: ApicMemory): boolean {
  const { words, rules, count } = memory;
  for (let i = 0; i < count && !rules.xapicIdOnLeavingX2apic; i++) {
    const r = memory.identity(i);
    if (!isX2apicMode(words, r) && xapicId(words, r) !== (x2apicId(words, r) & 0xff)) return true;
  }
  return false;
}

/** Has an APIC in x2APIC mode a LDR that is not its own? */
function foreignIds(memory: ApicMemory): boolean {
  const { words, rules, count } = memory;
  for (let i = 0; i < count && !rules.x2apicIdReadOnly; i++) {
    const r = memory.identity(i);
    if (isX2apicMode(words, r) && logicalDestination(words, r) !== x2apicLogicalId(x2apicId(words, r))) return true;
  }
  return false;
}

const isBroadcast = (destination: number): boolean =>
  destination === BROADCAST.XAPIC || destination === BROADCAST.X2APIC;
