/**
 * From a message to the APICs that take it: through the map where there is an answer, by scan where there is none. IPIs,
 * MSIs and I/O APIC messages all come through here. Any thread may route.
 *
 * There is one decision: `decide` fills `targets`, and `deliver` carries it out. Who explains or traces a message looks at
 * the same lists in between. Plain numbers in and out, no allocation: a router owns its lists and belongs to one thread, so
 * ApicHost.wake, which `deliver` calls, must not send a message itself.
 *
 * Rules: kvm_apic_map_get_dest_lapic, kvm_irq_delivery_to_apic_fast and kvm_irq_delivery_to_apic in arch/x86/kvm.
 */
import { NOBODY } from './arbitration.ts';
import { type ApicBehaviour, LOGICAL, logicalRow } from './behaviour.ts';
import {
  asFixed,
  BROADCAST,
  commandShorthand,
  commandVector,
  flatMembers,
  isLogical,
  isLowestPriority,
  SHORTHAND,
  x2apicCluster,
  x2apicClusterMembers,
  xapicClusterMembers,
} from './fields.ts';
import { isPresent } from './identity.ts';
import { type ApicMemory, HEADER, MAP, type MapWord, NO_RECORD, type RecordWord } from './layout.ts';
import { MAP_STATE } from './map.ts';
import type { ApicPort } from './port.ts';
import { REASON } from './reasons.ts';
import { nthBit } from './vectors.ts';

/** What `lookUp` answers when a scan is needed, and what KVM answers when a scan found nobody at all. */
export const NO_ANSWER = -1;

/** By which way a decision was made. */
export type Path = 'self' | 'map' | 'scan';

const CLUSTER_SIZE = 16;

export class Router {
  /** Of the last decision, in order of delivery: vCPU indexes, and for each the REASON why. */
  readonly targets: Int32Array;
  readonly reasons: Uint8Array;
  /** Of the last decision. */
  path: Path = 'self';

  readonly #memory: ApicMemory;
  readonly #words: Int32Array;
  readonly #behaviour: ApicBehaviour;
  readonly #port: ApicPort;
  /** The command as it will be accepted: a scan changes it. */
  #command = 0;

  constructor(memory: ApicMemory, behaviour: ApicBehaviour, port: ApicPort) {
    this.#memory = memory;
    this.#words = memory.words;
    this.#behaviour = behaviour;
    this.#port = port;
    const room = Math.max(memory.options.maxApics, CLUSTER_SIZE);
    this.targets = new Int32Array(room);
    this.reasons = new Uint8Array(room);
  }

  /**
   * Routes one message (message.ts).
   * @returns how many APICs took it (>= 0), or -1 when a scan found no APIC that it was meant for
   */
  route(source: number, destination: number, command: number): number {
    return this.deliver(this.decide(source, destination, command));
  }

  /**
   * Decides who is offered a message: `targets[0..n-1]`, each with its reason.
   * @returns n, or -1 when a scan found nobody
   */
  decide(source: number, destination: number, command: number): number {
    const shorthand = commandShorthand(command);
    this.#command = command;
    if (shorthand === SHORTHAND.SELF) {
      this.path = 'self';
      this.targets[0] = source;
      this.reasons[0] = REASON.SELF;
      return source < 0 ? 0 : 1; // a device has no self: KVM_BUG_ON there
    }
    if (shorthand === SHORTHAND.NONE) {
      const found = this.lookUp(source, destination, command);
      if (found !== NO_ANSWER) {
        this.path = 'map';
        return found;
      }
    }
    this.path = 'scan';
    return this.scan(source, destination, command);
  }

  /** Offers the message to the `found` targets of the last decision. Answers as `route`. */
  deliver(found: number): number {
    if (found < 0) return NO_ANSWER;
    const command = this.#command;
    let taken = 0;
    for (let i = 0; i < found; i++) taken += this.#port.accept(this.targets[i], command);
    return taken;
  }

  /**
   * Asks the map.
   * @returns how many targets there are; -1 if the map has no answer and a scan is needed
   */
  lookUp(source: number, destination: number, command: number): number {
    const words = this.#words;
    const from = this.#record(source);
    for (;;) {
      const serial = Atomics.load(words, HEADER.MAP_PUBLISHED);
      const m = this.#memory.mapBuffer(serial);
      let found = NO_ANSWER;
      if (words[m + MAP.STATE] === MAP_STATE.PRESENT && !this.#behaviour.needsScan(m, from, destination, command)) {
        found = isLogical(command)
          ? this.#lookUpLogical(m, destination, command)
          : this.#lookUpPhysical(m, destination);
      }
      // The builder was not in this buffer while it was read (map.ts): the answer is whole.
      if (((Atomics.load(words, HEADER.MAP_BUILDING) - serial) | 0) <= 1) return found;
    }
  }

  #lookUpPhysical(m: MapWord, destination: number): number {
    const words = this.#words;
    if (destination > words[m + MAP.MAX_APIC_ID]) return this.#absent();
    const entry = words[m + MAP.PHYSICAL + destination];
    if (entry === 0) return this.#absent();
    this.#found(0, entry);
    return 1;
  }

  #lookUpLogical(m: MapWord, destination: number, command: number): number {
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
    // For lowest priority KVM counts the addressed bits, whether or not they are somebody's.
    const lowest = isLowestPriority(command);
    let found = 0;
    for (let rest = members; rest !== 0; rest &= rest - 1) {
      const entry = words[row + nthBit(rest, 0)];
      if (entry !== 0 || lowest) this.#found(found++, entry);
    }
    return lowest ? this.#pickOne(found, command) : found;
  }

  #found(i: number, entry: number): void {
    this.targets[i] = entry - 1; // an entry of 0 becomes NOBODY
    this.reasons[i] = REASON.MAPPED;
  }

  #absent(): number {
    return this.#memory.rules.absentIsZero ? 0 : NO_ANSWER;
  }

  /** Asks every APIC. @returns how many targets there are; -1 for none */
  scan(source: number, destination: number, command: number): number {
    const { rules, count } = this.#memory;
    if (rules.broadcastLowestToFixed && isLowestBroadcast(destination, command)) this.#command = asFixed(command);
    else this.#command = command;
    const lowest = isLowestPriority(this.#command); // a hint survives the line above: KVM still picks one
    const words = this.#words;
    const from = this.#record(source);
    const shorthand = commandShorthand(command);
    let found = 0;
    for (let i = 0; i < count; i++) {
      const r = this.#memory.identity(i);
      if (!isPresent(words, r)) continue; // disabled APICs never match
      const reason =
        shorthand === SHORTHAND.NONE
          ? this.#behaviour.match(r, from, destination, command)
          : byShorthand(shorthand, i === source);
      if (reason === REASON.NONE || (lowest && !this.#behaviour.competes(r))) continue;
      this.targets[found] = i;
      this.reasons[found++] = reason;
    }
    if (lowest) found = this.#pickOne(found, command);
    return found === 0 ? NO_ANSWER : found;
  }

  /** Leaves the candidate that lowest priority picks. @returns 1, or 0 when it picks nobody */
  #pickOne(candidates: number, command: number): number {
    const { targets, reasons } = this;
    const i = this.#behaviour.arbitrate(targets, candidates, commandVector(command));
    if (i < 0 || targets[i] === NOBODY) return 0;
    targets[0] = targets[i];
    reasons[0] = reasons[i];
    return 1;
  }

  #record(source: number): RecordWord {
    return source < 0 ? NO_RECORD : this.#memory.identity(source);
  }
}

function byShorthand(shorthand: number, isSender: boolean): number {
  if (shorthand === SHORTHAND.SELF) return isSender ? REASON.SELF : REASON.NONE;
  return shorthand === SHORTHAND.ALL || !isSender ? REASON.SHORTHAND : REASON.NONE;
}

/** KVM turns lowest priority to physical 0xff into fixed. */
const isLowestBroadcast = (destination: number, command: number): boolean =>
  destination === BROADCAST.XAPIC && !isLogical(command) && isLowestPriority(command);
