/**
 * What layer 1 must have seen, and the check of the map against the scan that rides along with it: every MSI is explained
 * by the model, and again as if each of two CPUs had sent it.
 */
import {
  type ApicMessage,
  ApicSystem,
  type ApicSystemOptions,
  type Behaviour,
  DELIVERY,
  DELIVERY_NAMES,
  DFR,
  holds,
  type LocalApic,
  MAP_DIFFERENCES,
  type MapDifference,
  type MapDifferenceName,
  REG,
  type RuleName,
  SPIV,
  STATE_BYTES,
} from '../apic/index.ts';
import { MpState } from '../kvm/constants.ts';
import { Coverage } from './coverage.ts';
import { describeFault } from './describe.ts';
import type { ModelObserver } from './model-judge.ts';
import { readRegister } from './page.ts';
import { EINVAL_OUTCOME, type HostOperation, type MsiOperation, RESET_PAGE } from './spec.ts';

const EPERM = -1;
const BROADCAST = 0xff;

/** What an answer of the host's operations shows. */
const ANSWERS: readonly (readonly [name: string, kind: HostOperation['kind'], (answer: number) => boolean])[] = [
  ['answer: taken by several', 'msi', (answer) => answer > 1],
  ['answer: taken by one', 'msi', (answer) => answer === 1],
  ['answer: taken by none', 'msi', (answer) => answer === 0],
  ['answer: no match (EPERM)', 'msi', (answer) => answer === EPERM],
  ['answer: EINVAL', 'msi', (answer) => answer === EINVAL_OUTCOME],
  ['state refused: wrong ID', 'state', (answer) => answer === EINVAL_OUTCOME],
  ['base refused', 'base', (answer) => answer === EINVAL_OUTCOME],
  ['INIT taken', 'settle', (answer) => (answer & 0xff) === MpState.INIT_RECEIVED],
  ['SIPI taken', 'settle', (answer) => (answer & 0xff) === MpState.RUNNABLE && answer >> 8 !== RESET_PAGE],
  ['NMI pending', 'events', (answer) => (answer & 0xff) !== 0],
];

/** A message that was not refused: whom the map means (null: it does not answer), and the answer. */
interface Routed {
  readonly message: Required<ApicMessage>;
  readonly map: readonly number[] | null;
  readonly answer: number;
  /** Does a scan find such an APIC? */
  finds(what: (apic: LocalApic) => boolean): boolean;
}

const isLowest = ({ message, answer }: Routed): boolean => message.deliveryMode === DELIVERY.LOWEST && answer > 0;
const isBroadcast = ({ map, message }: Routed): boolean => map === null && message.destination === BROADCAST;

const ROUTES: readonly (readonly [name: string, (routed: Routed) => boolean])[] = [
  ['map: physical', ({ map, message }) => map !== null && map.length > 0 && !message.logical],
  ['scan: physical', ({ map, message }) => map === null && !message.logical],
  ['scan: logical', ({ map, message }) => map === null && message.logical],
  ['broadcast 0xff', isBroadcast],
  [
    'quirk makes 0xff reach x2APIC mode',
    (routed) => isBroadcast(routed) && routed.finds(({ mode, apicId }) => mode === 'x2apic' && apicId !== BROADCAST),
  ],
  ['lowest priority by map', (routed) => isLowest(routed) && routed.map !== null],
  ['lowest priority by scan', (routed) => isLowest(routed) && routed.map === null],
  ['redirection hint', ({ message, answer }) => message.redirectionHint && answer > 0],
  ['level-triggered', ({ message, answer }) => message.trigMode && answer > 0],
];
const DEVICE_MODES = DELIVERY_NAMES.map((name) => `mode ${name}`);

const mapAndScan = (name: MapDifferenceName): string => `map and scan: ${name}`;

/** What only a kernel with this rule can show (`true`), or only one without it. */
const BY_RULE: readonly (readonly [name: string, rule: RuleName, holds: boolean])[] = [
  ['no map: physical alias', 'gate', true],
  [mapAndScan('wide-id-without-gate'), 'gate', true],
  [mapAndScan('legacy-logical-alias'), 'logicalAlias', false],
  [mapAndScan('legacy-id-of-a-state'), 'x2apicIdReadOnly', false],
  [mapAndScan('legacy-left-x2apic'), 'xapicIdOnLeavingX2apic', false],
];

const ROUTING_COVERAGE: readonly string[] = [
  ...['gate on', 'gate off', 'quirk on', 'quirk off'],
  ...['map: flat', 'map: cluster', 'map: x2apic', 'map: none enabled'],
  ...['no map: physical alias', 'no logical map: alias', 'no logical map: mixed modes', 'broadcast 0xffffffff'],
  ...[...ROUTES, ...ANSWERS].map(([name]) => name),
  ...DEVICE_MODES,
  ...(Object.keys(MAP_DIFFERENCES) as MapDifferenceName[]).map(mapAndScan),
];

/** What can be seen of a kernel that this behaviour follows. */
function visible(behaviour: Behaviour): string[] {
  const hidden = BY_RULE.filter(([, rule, shown]) => holds(rule, behaviour) !== shown).map(([name]) => name);
  return ROUTING_COVERAGE.filter((name) => !hidden.includes(name));
}

/** An unintended difference between the map and the scan. */
export interface RoutingFault {
  readonly message: ApicMessage;
  readonly differences: readonly MapDifference[];
}

const page = new Uint8Array(STATE_BYTES);

/** What an APIC says to the logical map; null for nothing. */
function logicalModeOf(apic: LocalApic): string | null {
  apic.getState(page);
  if ((readRegister(page, REG.SPIV) & SPIV.ENABLE) === 0 || readRegister(page, REG.LDR) === 0) return null;
  if (apic.mode === 'xapic') return readRegister(page, REG.DFR) === DFR.FLAT >>> 0 ? 'flat' : 'cluster';
  return apic.mode === 'x2apic' ? apic.mode : null;
}

export class RoutingObserver implements ModelObserver {
  readonly coverage: Coverage;
  #system = new ApicSystem({ shared: false, maxApics: 1 });
  /** Of the last machine. */
  #fault: RoutingFault | undefined;

  /** @param behaviour what the model follows */
  constructor({ behaviour }: ApicSystemOptions) {
    this.coverage = new Coverage(visible(behaviour ?? 'kvm'));
  }

  wrong(): string[] | undefined {
    return this.#fault && describeFault(this.#fault);
  }

  /** The model was rebuilt. */
  built(system: ApicSystem): void {
    this.#system = system;
    this.#fault = undefined;
    const { x2apicFormat, broadcastQuirkDisabled } = system.options;
    this.coverage.hit(x2apicFormat ? 'gate on' : 'gate off');
    this.coverage.hit(broadcastQuirkDisabled ? 'quirk off' : 'quirk on');
    this.#lookAtMap();
  }

  host(operation: HostOperation, answer: number, index: number): void {
    // Indexed, here and below: with patterns an operation costs 14 us, without 11.
    for (const each of ANSWERS) if (each[1] === operation.kind && each[2](answer)) this.coverage.hit(each[0]);
    if (operation.kind === 'base' || operation.kind === 'state') this.#lookAtMap();
    if (operation.kind !== 'msi' || answer === EINVAL_OUTCOME) return;
    this.#routed(operation, answer);
    this.#checkIpis(operation, index);
  }

  #lookAtMap(): void {
    const map = this.#system.map();
    if (map.state === 'disabled') this.coverage.hit('no map: physical alias');
    else if (map.logicalMode !== 'disabled') this.coverage.hit(`map: ${map.logicalMode}`);
    else this.coverage.hit(`no logical map: ${this.#logicalModes() > 1 ? 'mixed modes' : 'alias'}`);
  }

  /** How many logical modes the software-enabled APICs have. */
  #logicalModes(): number {
    const modes = new Set<string | null>();
    for (let i = 0; i < this.#system.count; i++) modes.add(logicalModeOf(this.#system.apic(i)));
    modes.delete(null);
    return modes.size;
  }

  #routed({ addressLow, addressHigh, data }: MsiOperation, answer: number): void {
    const system = this.#system;
    const message = system.msiMessage(addressLow, addressHigh, data);
    const { map, scan } = system.explain(message);
    const finds: Routed['finds'] = (what) => scan.some(({ vcpuIndex }) => what(system.apic(vcpuIndex)));
    const routed = { message, map, answer, finds };
    for (const each of ROUTES) if (each[1](routed)) this.coverage.hit(each[0]);
    this.coverage.hit(DEVICE_MODES[message.deliveryMode]);
  }

  /** The same message, from a device or from a CPU in turn: whom do the map and the scan mean? */
  #checkIpis({ addressLow, addressHigh, data }: MsiOperation, index: number): void {
    const system = this.#system;
    const source = (index % (system.count + 1)) - 1;
    const message = { ...system.msiMessage(addressLow, addressHigh, data), source };
    // An IPI in x2APIC mode has a 32-bit destination whatever the gate says.
    if (source >= 0 && system.apic(source).mode === 'x2apic') message.destination |= addressHigh & ~0xff;
    message.destination >>>= 0;
    if (message.destination === 0xffffffff) this.coverage.hit('broadcast 0xffffffff');
    const found = system.differences(message);
    if (found.length === 0) return;
    for (const { name } of found) if (name !== null) this.coverage.hit(`map and scan: ${name}`);
    if (found.some(({ name }) => name === null)) this.#fault ??= { message, differences: found };
  }
}
