/**
 * KVM's behaviour and hardware's: how an APIC enters the map, when the map must not be asked, which APICs a scan finds, who
 * of several takes a lowest-priority message, and how a deadline is computed. One small object each; nothing else in this
 * directory knows which one is at work.
 *
 * KVM's rules: kvm_recalculate_phys_map, kvm_recalculate_logical_map, kvm_apic_is_broadcast_dest, kvm_apic_mda and
 * kvm_apic_match_{physical,logical}_addr in arch/x86/kvm/lapic.c. Hardware's: SDM vol. 3A, 12.6.2.
 * `r` is the first word of an APIC's identity record, `entry` what the map stores for it, `m` the first word of a map buffer.
 * Every function may run on any thread; those that build run under the map lock.
 */
import { arbitrateAsKvm } from './arbitration.ts';
import {
  BROADCAST,
  DFR,
  flatMembers,
  isLogical,
  isLowestPriority,
  XAPIC_CLUSTER_MASK,
  x2apicCluster,
  x2apicClusterMembers,
  xapicCluster,
  xapicClusterMembers,
} from './fields.ts';
import {
  destinationFormat,
  isSoftwareEnabled,
  isX2apicMode,
  logicalDestination,
  x2apicId,
  xapicId,
  xapicLogicalId,
} from './identity.ts';
import { type ApicMemory, MAP, type MapWord, NO_RECORD, type RecordWord } from './layout.ts';
import { REASON } from './reasons.ts';
import type { Rules } from './rules.ts';
import { nthBit, popCount } from './vectors.ts';

/** Logical modes of a map (enum kvm_apic_logical_mode). NONE_ENABLED is KVM_APIC_MODE_SW_DISABLED. */
export const LOGICAL = { NONE_ENABLED: 0, FLAT: 1, CLUSTER: 2, X2APIC: 4, DISABLED: 8 } as const;

export interface ApicBehaviour {
  /** Enters a present APIC into the physical map. False: no map can say this, drop all of it. */
  addPhysical(m: MapWord, r: RecordWord, entry: number): boolean;
  /** Enters a present APIC into the logical map, or disables that map. */
  addLogical(m: MapWord, r: RecordWord, entry: number): void;
  /** Must this message's targets be looked for by scan although there is a map? `from` is the sender's record, or NO_RECORD. */
  needsScan(m: MapWord, from: RecordWord, destination: number, command: number): boolean;
  /** Does this APIC take the message, as far as its destination goes? A REASON, 0 for no. */
  match(r: RecordWord, from: RecordWord, destination: number, command: number): number;
  /** In a scan, of an APIC that matches a lowest-priority message: is it a candidate? */
  competes(r: RecordWord): boolean;
  /**
   * Which of the candidates takes a lowest-priority message. They are vCPU indexes, or NOBODY for an addressed bit of the
   * map that no APIC has. What may be read of them is in arbitration.ts.
   * @returns an index into `candidates`, or -1 for none
   */
  arbitrate(candidates: Int32Array, count: number, vector: number): number;
  /** How far away, in nanoseconds, is a TSC deadline that is `cycles` (more than 0) away? `tscKhz` is not 0. */
  cyclesToNanos(cycles: bigint, tscKhz: number): number;
}

export const makeBehaviour = (memory: ApicMemory): ApicBehaviour =>
  memory.options.behaviour === 'hardware' ? new HardwareBehaviour(memory) : new KvmBehaviour(memory);

/** KVM. Kernels differ in rules (rules.ts), not in classes. */
class KvmBehaviour implements ApicBehaviour {
  readonly #words: Int32Array;
  readonly #rules: Readonly<Rules>;
  readonly #memory: ApicMemory;
  readonly #hack: boolean;
  readonly #quirk: boolean;

  constructor(memory: ApicMemory) {
    this.#memory = memory;
    this.#words = memory.words;
    this.#rules = memory.rules;
    this.#hack = memory.options.x2apicFormat || !memory.rules.gate;
    this.#quirk = !memory.options.broadcastQuirkDisabled;
  }

  addPhysical(m: MapWord, r: RecordWord, entry: number): boolean {
    const words = this.#words;
    const rules = this.#rules;
    if (this.#hack) {
      this.#enterHotplug(m, r, entry);
      return true;
    }
    const at = m + MAP.PHYSICAL + (isX2apicMode(words, r) ? x2apicId(words, r) : xapicId(words, r));
    if (words[at] !== 0) return !rules.physicalAliasDropsMap;
    words[at] = entry;
    return true;
  }

  /**
   * The hotplug hack: an APIC whose ID is over 0xff can be reached by it while still in xAPIC mode, and of aliased 8-bit
   * IDs the first in order of creation is mapped, unless an x2APIC-mode APIC owns the ID.
   */
  #enterHotplug(m: MapWord, r: RecordWord, entry: number): void {
    const words = this.#words;
    const rules = this.#rules;
    const x2apic = isX2apicMode(words, r);
    const wide = x2apicId(words, r);
    if (x2apic || wide > BROADCAST.XAPIC) {
      const at = m + MAP.PHYSICAL + wide;
      if (words[at] === 0 || rules.x2apicIdOverridesAlias) words[at] = entry;
    }
    if (!x2apic) {
      const at = m + MAP.PHYSICAL + xapicId(words, r);
      if (words[at] === 0 || !rules.firstAliasWins) words[at] = entry;
    }
  }

  addLogical(m: MapWord, r: RecordWord, entry: number): void {
    const words = this.#words;
    const rules = this.#rules;
    if (words[m + MAP.LOGICAL_MODE] === LOGICAL.DISABLED) return;
    if (rules.softwareDisabledSkipped && !isSoftwareEnabled(words, r)) return;
    if (rules.zeroLdrSkipped && logicalDestination(words, r) === 0) return;
    const mode = logicalMode(words, r);
    if (words[m + MAP.LOGICAL_MODE] === LOGICAL.NONE_ENABLED) {
      words[m + MAP.LOGICAL_MODE] = mode;
    } else if (words[m + MAP.LOGICAL_MODE] !== mode) {
      if (rules.mixedLogicalModes) words[m + MAP.LOGICAL_MODE] = LOGICAL.DISABLED;
      return;
    }
    if (mode === LOGICAL.X2APIC) {
      // The physical map serves: a cluster is 16 consecutive IDs. Kernels that let a state set the ID enter it by LDR.
      if (!rules.x2apicIdReadOnly) this.#enterByLdr(m, r, entry);
      return;
    }
    const id = xapicLogicalId(words, r);
    const members = mode === LOGICAL.FLAT ? id : xapicClusterMembers(id);
    if (members === 0) return;
    const at = logicalRow(m, mode, id) + nthBit(members, 0);
    if (rules.logicalAlias && (popCount(members) !== 1 || words[at] !== 0)) {
      words[m + MAP.LOGICAL_MODE] = LOGICAL.DISABLED;
    } else {
      words[at] = entry;
    }
  }

  #enterByLdr(m: MapWord, r: RecordWord, entry: number): void {
    const words = this.#words;
    const ldr = logicalDestination(words, r);
    const members = x2apicClusterMembers(ldr);
    const id = x2apicCluster(ldr) * 16 + nthBit(members, 0);
    if (members !== 0 && id <= words[m + MAP.MAX_APIC_ID]) words[m + MAP.PHYSICAL + id] = entry;
  }

  needsScan(m: MapWord, from: RecordWord, destination: number, command: number): boolean {
    const words = this.#words;
    const rules = this.#rules;
    if (!rules.noLogicalModeIsNobody && isLogical(command) && words[m + MAP.LOGICAL_MODE] === LOGICAL.NONE_ENABLED) {
      return true;
    }
    if (this.#quirk) {
      const fromX2apic = from !== NO_RECORD && isX2apicMode(words, from);
      if (fromX2apic) return destination === BROADCAST.X2APIC;
      return destination === BROADCAST.XAPIC && rules.xapicBroadcast;
    }
    if (destination === BROADCAST.XAPIC) return words[m + MAP.LOGICAL_MODE] !== LOGICAL.X2APIC;
    return destination === BROADCAST.X2APIC;
  }

  match(r: RecordWord, from: RecordWord, destination: number, command: number): number {
    const words = this.#words;
    const rules = this.#rules;
    const x2apic = isX2apicMode(words, r);
    if (destination === BROADCAST.XAPIC && x2apic && from === NO_RECORD && this.#quirk && rules.broadcastQuirk) {
      return REASON.BROADCAST; // kvm_apic_mda makes 0xffffffff of it
    }
    if (destination === (x2apic ? BROADCAST.X2APIC : BROADCAST.XAPIC)) return REASON.BROADCAST;
    if (isLogical(command)) return this.#matchLogical(r, destination); // apart, so that V8 inlines the rest into a scan
    if (x2apic) return destination === x2apicId(words, r) ? REASON.X2APIC_ID : REASON.NONE;
    if (destination > BROADCAST.XAPIC && rules.wideDestination) {
      return destination === x2apicId(words, r) ? REASON.WIDE_ID : REASON.NONE;
    }
    return (destination & BROADCAST.XAPIC) === xapicId(words, r) ? REASON.XAPIC_ID : REASON.NONE;
  }

  #matchLogical(r: RecordWord, destination: number): number {
    const words = this.#words;
    const rules = this.#rules;
    if (isX2apicMode(words, r)) return matchX2apicLogical(words, r, destination);
    const id = xapicLogicalId(words, r);
    const format = destinationFormat(words, r);
    if (format === DFR.FLAT) return (id & destination) !== 0 ? REASON.FLAT : REASON.NONE;
    if (format !== DFR.CLUSTER && rules.oddDfr) return REASON.NONE;
    const sameCluster = xapicCluster(id) === xapicCluster(destination) || !rules.clusterAddress;
    return sameCluster && xapicClusterMembers(id & destination) !== 0 ? REASON.CLUSTER : REASON.NONE;
  }

  competes(r: RecordWord): boolean {
    return isSoftwareEnabled(this.#words, r) || !this.#rules.lowestSkipsDisabled;
  }

  /** start_sw_tscdeadline computes in 64 bits: from 1.8e13 cycles on, two hours, a deadline comes early. */
  cyclesToNanos(cycles: bigint, tscKhz: number): number {
    return Number(BigInt.asUintN(64, cycles * 1_000_000n) / BigInt(tscKhz));
  }

  arbitrate(candidates: Int32Array, count: number, vector: number): number {
    return arbitrateAsKvm(this.#memory, candidates, count, vector);
  }
}

/**
 * No hack, no quirk: an APIC in xAPIC mode has eight destination bits and looks at no others (SDM vol. 3A, 12.6.2.1). The
 * map is asked only where it is exact: no alias, one logical model, and for a wide or logical x2APIC destination no APIC in
 * xAPIC mode at all.
 */
class HardwareBehaviour implements ApicBehaviour {
  readonly #memory: ApicMemory;
  readonly #words: Int32Array;

  constructor(memory: ApicMemory) {
    this.#memory = memory;
    this.#words = memory.words;
  }

  addPhysical(m: MapWord, r: RecordWord, entry: number): boolean {
    const words = this.#words;
    const x2apic = isX2apicMode(words, r);
    if (!x2apic) words[m + MAP.HAS_XAPIC] = 1;
    const at = m + MAP.PHYSICAL + (x2apic ? x2apicId(words, r) : xapicId(words, r));
    if (words[at] !== 0) return false;
    words[at] = entry;
    return true;
  }

  addLogical(m: MapWord, r: RecordWord, entry: number): void {
    const words = this.#words;
    if (words[m + MAP.LOGICAL_MODE] === LOGICAL.DISABLED || logicalDestination(words, r) === 0) return;
    const format = destinationFormat(words, r);
    const mode = logicalMode(words, r);
    const known = words[m + MAP.LOGICAL_MODE];
    const id = xapicLogicalId(words, r);
    const members = mode === LOGICAL.FLAT ? id : xapicClusterMembers(id);
    const exact =
      (known === LOGICAL.NONE_ENABLED || known === mode) &&
      (mode === LOGICAL.X2APIC || // software-disabled ones still take NMI, INIT and SIPI: only a scan is exact
        (isSoftwareEnabled(words, r) &&
          (format === DFR.FLAT || format === DFR.CLUSTER) &&
          (members === 0 || (popCount(members) === 1 && words[logicalRow(m, mode, id) + nthBit(members, 0)] === 0))));
    words[m + MAP.LOGICAL_MODE] = exact ? mode : LOGICAL.DISABLED;
    if (exact && mode !== LOGICAL.X2APIC && members !== 0) words[logicalRow(m, mode, id) + nthBit(members, 0)] = entry;
  }

  needsScan(m: MapWord, _from: RecordWord, destination: number, command: number): boolean {
    const words = this.#words;
    const logical = isLogical(command);
    if (logical && isLowestPriority(command)) return true; // the map knows neither who is enabled nor which bits are nobody's
    if (destination === BROADCAST.X2APIC) return true;
    if (words[m + MAP.HAS_XAPIC] === 0) return logical && words[m + MAP.LOGICAL_MODE] !== LOGICAL.X2APIC;
    if (logical) return words[m + MAP.LOGICAL_MODE] === LOGICAL.X2APIC || lowByte(destination) === BROADCAST.XAPIC;
    return destination >= BROADCAST.XAPIC;
  }

  match(r: RecordWord, _from: RecordWord, destination: number, command: number): number {
    const words = this.#words;
    const logical = isLogical(command);
    if (isX2apicMode(words, r)) {
      if (destination === BROADCAST.X2APIC) return REASON.BROADCAST;
      if (logical) return matchX2apicLogical(words, r, destination);
      return destination === x2apicId(words, r) ? REASON.X2APIC_ID : REASON.NONE;
    }
    const mda = lowByte(destination);
    if (mda === BROADCAST.XAPIC) return REASON.BROADCAST;
    if (!logical) {
      if (mda !== xapicId(words, r)) return REASON.NONE;
      return destination > BROADCAST.XAPIC ? REASON.LOW_BYTE : REASON.XAPIC_ID;
    }
    const id = xapicLogicalId(words, r);
    switch (destinationFormat(words, r)) {
      case DFR.FLAT:
        return (id & mda) !== 0 ? REASON.FLAT : REASON.NONE;
      case DFR.CLUSTER:
        return xapicCluster(id) === xapicCluster(mda) && xapicClusterMembers(id & mda) !== 0
          ? REASON.CLUSTER
          : REASON.NONE;
      default:
        return REASON.NONE;
    }
  }

  competes(r: RecordWord): boolean {
    return isSoftwareEnabled(this.#words, r);
  }

  cyclesToNanos(cycles: bigint, tscKhz: number): number {
    return Number((cycles * 1_000_000n) / BigInt(tscKhz));
  }

  arbitrate(candidates: Int32Array, count: number, vector: number): number {
    return arbitrateAsKvm(this.#memory, candidates, count, vector);
  }
}

const lowByte = (destination: number): number => flatMembers(destination);

function logicalMode(words: Int32Array, r: RecordWord): number {
  if (isX2apicMode(words, r)) return LOGICAL.X2APIC;
  return destinationFormat(words, r) === DFR.FLAT ? LOGICAL.FLAT : LOGICAL.CLUSTER;
}

/** First entry of the flat map, or of a cluster of the cluster map. */
export function logicalRow(m: MapWord, mode: number, logicalId: number): number {
  return mode === LOGICAL.FLAT ? m + MAP.FLAT : m + MAP.CLUSTER + (xapicCluster(logicalId) & XAPIC_CLUSTER_MASK) * 4;
}

function matchX2apicLogical(words: Int32Array, r: RecordWord, destination: number): number {
  const ldr = logicalDestination(words, r);
  const same = x2apicCluster(ldr) === x2apicCluster(destination);
  return same && x2apicClusterMembers(ldr & destination) !== 0 ? REASON.X2APIC_CLUSTER : REASON.NONE;
}
