/**
 * From a message to the APICs that take it: through the map where there is an answer, by scan where there is none. IPIs,
 * MSIs and I/O APIC messages all come through here. Any thread may route.
 *
 * Rules: kvm_apic_map_get_dest_lapic, kvm_irq_delivery_to_apic_fast and kvm_irq_delivery_to_apic in arch/x86/kvm.
 * Plain numbers in and out, no allocation: a router owns two small scratch arrays and belongs to one thread.
 */
import { LOGICAL, logicalRow, type RoutingBehaviour } from './behaviour.ts';
import {
  BROADCAST,
  DELIVERY,
  flatMembers,
  SHORTHAND,
  x2apicCluster,
  x2apicClusterMembers,
  xapicClusterMembers,
} from './fields.ts';
import { isPresent, isSoftwareEnabled } from './identity.ts';
import { type ApicMemory, HEADER, INBOX, MAP } from './layout.ts';
import { MAP_STATE } from './map.ts';
import type { ApicPort } from './port.ts';
import { REASON } from './reasons.ts';
import { nthBit, popCount } from './vectors.ts';

/** The `source` of a message that no APIC sent. */
export const FROM_DEVICE = -1;

/** What KVM answers when a scan found nobody at all. */
const NOBODY = -1;

/** Targets found through the map, or these: */
const NO_ANSWER = -1;

const CLUSTER_SIZE = 16;

export class Router {
  readonly #memory: ApicMemory;
  readonly #words: Int32Array;
  readonly #behaviour: RoutingBehaviour;
  readonly #port: ApicPort;
  readonly #targets = new Int32Array(CLUSTER_SIZE);
  readonly #candidates: Int32Array;

  constructor(memory: ApicMemory, behaviour: RoutingBehaviour, port: ApicPort) {
    this.#memory = memory;
    this.#words = memory.words;
    this.#behaviour = behaviour;
    this.#port = port;
    this.#candidates = new Int32Array(memory.options.maxApics);
  }

  /**
   * Routes one message.
   * @param source vCPU index of the sending APIC, or FROM_DEVICE
   * @param destination 0-0xffffffff: physical ID or logical ID; ignored with a shorthand, but for KVM's test for 0xff
   * @param mode delivery mode, 0-7
   * @param vector 0-255
   * @param shorthand 0-3 (SHORTHAND)
   * @param lowestHint an MSI's redirection hint
   * @returns how many APICs took it (>= 0), or -1 when a scan found no APIC that it was meant for
   */
  route(
    source: number,
    destination: number,
    logical: boolean,
    mode: number,
    vector: number,
    assert: boolean,
    levelTriggered: boolean,
    shorthand: number,
    lowestHint: boolean,
  ): number {
    if (shorthand === SHORTHAND.SELF) return this.#port.accept(source, mode, vector, assert, levelTriggered);
    if (shorthand === SHORTHAND.NONE) {
      const lowest = mode === DELIVERY.LOWEST || lowestHint;
      const found = this.lookUp(source, destination, logical, lowest, vector);
      if (found !== NO_ANSWER) {
        let taken = 0;
        for (let i = 0; i < found; i++) {
          taken += this.#port.accept(this.#targets[i], mode, vector, assert, levelTriggered);
        }
        return taken;
      }
    }
    return this.#scan(source, destination, logical, mode, vector, assert, levelTriggered, shorthand, lowestHint);
  }

  /**
   * Asks the map.
   * @returns how many targets there are, now in `target(0..n-1)`; -1 if the map has no answer and a scan is needed
   */
  lookUp(source: number, destination: number, logical: boolean, lowest: boolean, vector: number): number {
    const words = this.#words;
    const from = source < 0 ? -1 : this.#memory.identity(source);
    for (;;) {
      const serial = Atomics.load(words, HEADER.MAP_PUBLISHED);
      const m = this.#memory.mapBuffer(serial);
      let found = NO_ANSWER;
      if (words[m + MAP.STATE] === MAP_STATE.PRESENT && !this.#behaviour.needsScan(m, destination, logical, from)) {
        found = logical ? this.#lookUpLogical(m, destination, lowest, vector) : this.#lookUpPhysical(m, destination);
      }
      // The builder was not in this buffer while it was read (map.ts): the answer is whole.
      if (((Atomics.load(words, HEADER.MAP_BUILDING) - serial) | 0) <= 1) return found;
    }
  }

  /** vCPU index of the i-th target of the last `lookUp`. */
  target(i: number): number {
    return this.#targets[i];
  }

  #lookUpPhysical(m: number, destination: number): number {
    const words = this.#words;
    if (destination > words[m + MAP.MAX_APIC_ID]) return this.#absent();
    const entry = words[m + MAP.PHYSICAL + destination];
    if (entry === 0) return this.#absent();
    this.#targets[0] = entry - 1;
    return 1;
  }

  #lookUpLogical(m: number, destination: number, lowest: boolean, vector: number): number {
    const words = this.#words;
    let row: number;
    let members: number;
    switch (words[m + MAP.LOGICAL_MODE]) {
      case LOGICAL.NONE_ENABLED:
        return this.#absent();
      case LOGICAL.FLAT:
        row = logicalRow(m, LOGICAL.FLAT, destination);
        members = flatMembers(destination);
        break;
      case LOGICAL.CLUSTER:
        row = logicalRow(m, LOGICAL.CLUSTER, destination);
        members = xapicClusterMembers(destination);
        break;
      case LOGICAL.X2APIC: {
        const first = x2apicCluster(destination) * CLUSTER_SIZE;
        const room = words[m + MAP.MAX_APIC_ID] + 1 - first;
        if (room <= 0) return this.#absent();
        row = m + MAP.PHYSICAL + first;
        members = x2apicClusterMembers(destination);
        if (room < CLUSTER_SIZE) members &= (1 << room) - 1;
        break;
      }
      default:
        return NO_ANSWER;
    }
    if (members === 0) return this.#absent();
    if (lowest) return this.#lowestOf(row, members, vector);
    let found = 0;
    for (let rest = members; rest !== 0; rest &= rest - 1) {
      const entry = words[row + nthBit(rest, 0)];
      if (entry !== 0) this.#targets[found++] = entry - 1;
    }
    return found;
  }

  /** Lowest priority among the addressed bits of a row: KVM hashes over the bits, whether or not they are somebody's. */
  #lowestOf(row: number, members: number, vector: number): number {
    const words = this.#words;
    let chosen = 0;
    if (this.#memory.options.vectorHashing) {
      const n = this.#memory.rules.vectorHashing ? vector % popCount(members) : 0;
      chosen = words[row + nthBit(members, n)];
    } else {
      for (let rest = members; rest !== 0; rest &= rest - 1) {
        const entry = words[row + nthBit(rest, 0)];
        if (entry !== 0 && (chosen === 0 || this.arbitratesBelow(entry - 1, chosen - 1))) chosen = entry;
      }
    }
    if (chosen === 0) return 0;
    this.#targets[0] = chosen - 1;
    return 1;
  }

  #absent(): number {
    return this.#memory.rules.absentIsZero ? 0 : NO_ANSWER;
  }

  #scan(
    source: number,
    destination: number,
    logical: boolean,
    requestedMode: number,
    vector: number,
    assert: boolean,
    levelTriggered: boolean,
    shorthand: number,
    lowestHint: boolean,
  ): number {
    const words = this.#words;
    const rules = this.#memory.rules;
    const count = this.#memory.count;
    let mode = requestedMode;
    if (!logical && destination === BROADCAST.XAPIC && (mode === DELIVERY.LOWEST || lowestHint)) {
      if (rules.broadcastLowestToFixed) mode = DELIVERY.FIXED;
    }
    const lowest = mode === DELIVERY.LOWEST || lowestHint; // the hint survives the line above: KVM still picks one
    let result = NOBODY;
    let candidates = 0;
    let best = -1;
    for (let i = 0; i < count; i++) {
      if (this.matches(i, source, destination, logical, shorthand) === REASON.NONE) continue;
      if (!lowest) {
        result = Math.max(result, 0) + this.#port.accept(i, mode, vector, assert, levelTriggered);
      } else if (isSoftwareEnabled(words, this.#memory.identity(i)) || !rules.lowestSkipsDisabled) {
        this.#candidates[candidates++] = i;
        if (best < 0 || this.arbitratesBelow(i, best)) best = i;
      }
    }
    if (candidates === 0) return result;
    if (this.#memory.options.vectorHashing) best = this.#candidates[rules.vectorHashing ? vector % candidates : 0];
    return this.#port.accept(best, mode, vector, assert, levelTriggered);
  }

  /** What a scan says of one APIC: a REASON, 0 for no. Absent (disabled) APICs never match. */
  matches(vcpuIndex: number, source: number, destination: number, logical: boolean, shorthand: number): number {
    const r = this.#memory.identity(vcpuIndex);
    if (!isPresent(this.#words, r)) return REASON.NONE;
    switch (shorthand) {
      case SHORTHAND.NONE:
        return this.#behaviour.match(r, destination, logical, source < 0 ? -1 : this.#memory.identity(source));
      case SHORTHAND.SELF:
        return vcpuIndex === source ? REASON.SELF : REASON.NONE;
      case SHORTHAND.ALL:
        return REASON.SHORTHAND;
      default:
        return vcpuIndex === source ? REASON.NONE : REASON.SHORTHAND;
    }
  }

  /** Did this vCPU take fewer lowest-priority interrupts? kvm_apic_compare_prio: the counters wrap, so their difference is compared. */
  arbitratesBelow(vcpuIndex: number, other: number): boolean {
    const mine = Atomics.load(this.#words, this.#memory.block(vcpuIndex) + INBOX.ARB_PRIORITY);
    const theirs = Atomics.load(this.#words, this.#memory.block(other) + INBOX.ARB_PRIORITY);
    return ((mine - theirs) | 0) < 0;
  }
}
