/**
 * What layer 1 must have seen, and the check of the map against the scan that rides along with it: every MSI is explained
 * by the model, and again as if each of two CPUs had sent it.
 */
import {
  type ApicMessage,
  ApicSystem,
  DELIVERY_NAMES,
  type LocalApic,
  MAP_DIFFERENCES,
  type MapDifference,
  REG,
  SPIV,
  STATE_BYTES,
} from '../apic/index.ts';
import { Coverage } from './coverage.ts';
import { describeFault } from './describe.ts';
import type { ModelObserver } from './model-judge.ts';
import { readRegister } from './page.ts';
import type { HostOperation } from './spec.ts';

const DEVICE_MODES = DELIVERY_NAMES.map((name) => `mode ${name}`);

const ROUTING_COVERAGE: readonly string[] = [
  'gate on',
  'gate off',
  'quirk on',
  'quirk off',
  'map: physical',
  'map: flat',
  'map: cluster',
  'map: x2apic',
  'map: none enabled',
  'no map: physical alias',
  'no logical map: alias',
  'no logical map: mixed modes',
  'scan: physical',
  'scan: logical',
  'broadcast 0xff',
  'broadcast 0xffffffff',
  'quirk makes 0xff reach x2APIC mode',
  'lowest priority by map',
  'lowest priority by scan',
  'redirection hint',
  'level-triggered',
  ...DEVICE_MODES,
  'answer: taken by several',
  'answer: taken by one',
  'answer: taken by none',
  'answer: no match (EPERM)',
  'answer: EINVAL',
  'state refused: wrong ID',
  'base refused',
  'INIT taken',
  'SIPI taken',
  'NMI pending',
  ...Object.keys(MAP_DIFFERENCES)
    .filter((name) => !name.startsWith('legacy'))
    .map((name) => `map and scan: ${name}`),
];

/** An unintended difference between the map and the scan. */
export interface RoutingFault {
  readonly message: ApicMessage;
  readonly differences: readonly MapDifference[];
}

const page = new Uint8Array(STATE_BYTES);
const DFR_FLAT = 0xffffffff;

/** What an APIC says to the logical map; null for nothing. */
function logicalModeOf(apic: LocalApic): string | null {
  if (apic.mode !== 'xapic' && apic.mode !== 'x2apic') return null;
  apic.getState(page);
  if ((readRegister(page, REG.SPIV) & SPIV.ENABLE) === 0 || readRegister(page, REG.LDR) === 0) return null;
  if (apic.mode === 'x2apic') return 'x2apic';
  return readRegister(page, REG.DFR) === DFR_FLAT ? 'flat' : 'cluster';
}

const EINVAL = -22;
const EPERM = -1;

export class RoutingObserver implements ModelObserver {
  readonly coverage = new Coverage(ROUTING_COVERAGE);
  #system = new ApicSystem({ shared: false, maxApics: 1 });
  /** Of the last machine. */
  #fault: RoutingFault | undefined;

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

  host(operation: HostOperation, outcome: number, index: number): void {
    const { coverage } = this;
    switch (operation.kind) {
      case 'msi':
        this.#routed(operation, outcome);
        if (outcome !== EINVAL) this.#checkIpis(operation, index);
        break;
      case 'base':
        if (outcome === EINVAL) coverage.hit('base refused');
        this.#lookAtMap();
        break;
      case 'state':
        if (outcome === EINVAL) coverage.hit('state refused: wrong ID');
        this.#lookAtMap();
        break;
      case 'settle':
        if ((outcome & 0xff) === 2) coverage.hit('INIT taken');
        if ((outcome & 0xff) === 0 && outcome >> 8 !== 0xf0) coverage.hit('SIPI taken');
        break;
      case 'events':
        if ((outcome & 0xff) !== 0) coverage.hit('NMI pending');
        break;
    }
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

  #routed({ addressLow, addressHigh, data }: HostOperation & { kind: 'msi' }, outcome: number): void {
    const { coverage } = this;
    const message = this.#system.msiMessage(addressLow, addressHigh, data);
    if (outcome === EINVAL) {
      coverage.hit('answer: EINVAL');
      return;
    }
    if (outcome === EPERM) coverage.hit('answer: no match (EPERM)');
    else coverage.hit(`answer: taken by ${outcome === 0 ? 'none' : outcome === 1 ? 'one' : 'several'}`);
    const { map, scan } = this.#system.explain(message);
    const kind = message.logical ? 'logical' : 'physical';
    const { deliveryMode = 0, destination } = message;
    if (map === null) coverage.hit(`scan: ${kind}`);
    else if (map.length > 0 && !message.logical) coverage.hit('map: physical');
    coverage.hit(DEVICE_MODES[deliveryMode] ?? '');
    if (deliveryMode === 1 && outcome > 0) coverage.hit(`lowest priority by ${map === null ? 'scan' : 'map'}`);
    if (message.redirectionHint === true && outcome > 0) coverage.hit('redirection hint');
    if (message.trigMode === true && outcome > 0) coverage.hit('level-triggered');
    if (map !== null || destination !== 0xff) return;
    coverage.hit('broadcast 0xff');
    const reached = scan.map(({ vcpuIndex }) => this.#system.apic(vcpuIndex));
    if (reached.some((apic) => apic.mode === 'x2apic' && apic.apicId !== 0xff))
      coverage.hit('quirk makes 0xff reach x2APIC mode');
  }

  /** The same message, from a device or from a CPU in turn: whom do the map and the scan mean? */
  #checkIpis({ addressLow, addressHigh, data }: HostOperation & { kind: 'msi' }, index: number): void {
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
