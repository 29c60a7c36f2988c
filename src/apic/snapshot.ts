/**
 * Readable copies for people: what `machine.lapic(id)` and `machine.apicMap()` show. Plain objects, safe to send between
 * threads and to print as JSON. Taken word by word: exact when the vCPU is not running.
 */
import { hex } from '../hex.ts';
import { LOGICAL } from './behaviour.ts';
import type { ApicCore } from './core.ts';
import { type ApicMode, baseMode, modeName, TIMER_MODE } from './fields.ts';
import { type ApicMemory, CONTROL, HEADER, INBOX, MAP, type MapWord } from './layout.ts';
import { INHIBIT, MAP_STATE, whyNoMap } from './map.ts';
import { REG, REGISTERS } from './registers.ts';
import type { ApicTimer } from './timer.ts';
import { listVectors } from './vectors.ts';

/** The owner's counters, as words of the control block. */
export const COUNTER = { IPIS: 0, EOIS: 1, ACKNOWLEDGED: 2, TIMER_EXPIRIES: 3, FAULTS: 4 } as const;

/** A local APIC at one moment, as plain data. Times are nanoseconds of the host's clock. */
export interface LocalApicSnapshot {
  readonly vcpuIndex: number;
  readonly apicId: number;
  readonly mode: ApicMode;
  readonly softwareEnabled: boolean;
  /** Hexadecimal, as /proc and dmesg print it. */
  readonly apicBase: string;
  /** What the other APICs compare: xAPIC ID in xAPIC mode, x2APIC ID in x2APIC mode. */
  readonly effectiveId: number;
  /** Registers by name, unsigned; ISR, TMR and IRR are in the lists below instead. */
  readonly registers: Readonly<Record<string, number>>;
  readonly inService: readonly number[];
  readonly levelTriggered: readonly number[];
  readonly requested: readonly number[];
  readonly pending: {
    readonly nmis: number;
    readonly events: number;
    readonly sipiVector: number;
    readonly timer: boolean;
  };
  readonly timer: { readonly mode: string; readonly deadlineNanos: number; readonly currentCount: number };
  readonly counters: {
    readonly ipis: number;
    readonly eois: number;
    readonly acknowledged: number;
    readonly timerExpiries: number;
    readonly faults: number;
  };
}

export function takeSnapshot(core: ApicCore, timer: ApicTimer, vcpuIndex: number): LocalApicSnapshot {
  const { words, a } = core;
  const registers: Record<string, number> = {};
  for (const { name, offset } of REGISTERS) {
    if (offset < REG.ISR || offset >= REG.ESR) registers[name] = core.register(offset) >>> 0;
  }
  if (core.x2apicMode) registers.ICR2 = words[core.icrHighWord] >>> 0; // as KVM_GET_LAPIC shows it
  const counter = (which: number): number => words[a + CONTROL.COUNTERS + which];
  const low = words[a + CONTROL.BASE_LOW] >>> 0;
  const high = words[a + CONTROL.BASE_HIGH] >>> 0;
  const mode = modeName(baseMode(low));
  return {
    vcpuIndex,
    apicId: core.apicId,
    mode,
    softwareEnabled: core.softwareEnabled,
    apicBase: hex(high * 2 ** 32 + low),
    effectiveId: mode === 'x2apic' ? core.apicId : core.register(REG.ID) >>> 24,
    registers,
    inService: listVectors(words, a + (REG.ISR >>> 2)),
    levelTriggered: listVectors(words, a + (REG.TMR >>> 2)),
    requested: listVectors(words, a + (REG.IRR >>> 2)),
    pending: {
      nmis: words[a + INBOX.NMIS],
      events: words[a + INBOX.EVENTS],
      sipiVector: words[a + INBOX.SIPI_VECTOR],
      timer: timer.pending,
    },
    timer: {
      mode: timerModeName(words[a + CONTROL.TIMER_MODE]),
      deadlineNanos: timer.deadlineNanos(),
      currentCount: timer.currentCount(),
    },
    counters: {
      ipis: counter(COUNTER.IPIS),
      eois: counter(COUNTER.EOIS),
      acknowledged: counter(COUNTER.ACKNOWLEDGED),
      timerExpiries: counter(COUNTER.TIMER_EXPIRIES),
      faults: counter(COUNTER.FAULTS),
    },
  };
}

function timerModeName(mode: number): string {
  if (mode === TIMER_MODE.ONE_SHOT) return 'one-shot';
  if (mode === TIMER_MODE.PERIODIC) return 'periodic';
  return mode === TIMER_MODE.TSC_DEADLINE ? 'tsc-deadline' : 'reserved';
}

/** Which logical destinations the map answers for; `disabled`: none, since APICs disagree. */
export type LogicalMode = 'none enabled' | 'flat' | 'cluster' | 'x2apic' | 'disabled';
/** Why the hardware acceleration of APICs would be inhibited (APICV_INHIBIT_REASON_* of KVM). */
export type InhibitReason = 'physical ID aliased' | 'logical ID aliased' | 'APIC ID modified' | 'APIC base modified';

/** The optimized APIC map at one moment (kvm_apic_map), as plain data. */
export interface ApicMapSnapshot {
  readonly state: 'map' | 'disabled';
  /** Why there is no map; null if there is one. */
  readonly reason: string | null;
  /** How many times the map has been rebuilt. */
  readonly serial: number;
  readonly maxApicId: number;
  readonly logicalMode: LogicalMode;
  /** Physical ID -> vCPU index, for the IDs that somebody has. */
  readonly physical: ReadonlyMap<number, number>;
  /** Logical bit -> vCPU index in flat mode; `${cluster}.${member}` -> vCPU index in cluster mode. Empty in x2APIC mode, where `physical` serves. */
  readonly logical: ReadonlyMap<string, number>;
  /** APICv inhibit reasons that KVM would raise. */
  readonly inhibits: readonly InhibitReason[];
}

export function takeMapSnapshot(memory: ApicMemory): ApicMapSnapshot {
  const { words } = memory;
  for (;;) {
    const serial = Atomics.load(words, HEADER.MAP_PUBLISHED);
    const snapshot = readMap(memory, memory.mapBuffer(serial), serial);
    if (((Atomics.load(words, HEADER.MAP_BUILDING) - serial) | 0) <= 1) return snapshot;
  }
}

function readMap(memory: ApicMemory, m: MapWord, serial: number): ApicMapSnapshot {
  const { words } = memory;
  const state = words[m + MAP.STATE];
  const present = state === MAP_STATE.PRESENT;
  const logicalMode = words[m + MAP.LOGICAL_MODE];
  const maxApicId = words[m + MAP.MAX_APIC_ID];
  const physical = new Map<number, number>();
  const logical = new Map<string, number>();
  if (present) {
    for (let id = 0; id <= maxApicId; id++) {
      const entry = words[m + MAP.PHYSICAL + id];
      if (entry !== 0) physical.set(id, entry - 1);
    }
    const [first, size] = LOGICAL_TABLES.get(logicalMode) ?? [0, 0];
    for (let i = 0; i < size; i++) {
      const entry = words[m + first + i];
      if (entry !== 0) logical.set(logicalMode === LOGICAL.FLAT ? `${i}` : `${i >> 2}.${i & 3}`, entry - 1);
    }
  }
  return {
    state: present ? 'map' : 'disabled',
    reason: present ? null : whyNoMap(state, words[m + MAP.REASON_INDEX]),
    serial,
    maxApicId,
    logicalMode: present ? logicalModeName(logicalMode) : 'disabled',
    physical,
    logical,
    inhibits: inhibitNames(words[m + MAP.INHIBITS], Atomics.load(words, HEADER.BASE_MODIFIED) !== 0),
  };
}

/** First word and size of the logical maps that are tables of their own. */
const LOGICAL_TABLES = new Map<number, readonly [first: number, size: number]>([
  [LOGICAL.FLAT, [MAP.FLAT, 8]],
  [LOGICAL.CLUSTER, [MAP.CLUSTER, 64]],
]);

function logicalModeName(mode: number): LogicalMode {
  if (mode === LOGICAL.FLAT) return 'flat';
  if (mode === LOGICAL.CLUSTER) return 'cluster';
  if (mode === LOGICAL.X2APIC) return 'x2apic';
  return mode === LOGICAL.NONE_ENABLED ? 'none enabled' : 'disabled';
}

function inhibitNames(bits: number, baseModified: boolean): InhibitReason[] {
  const names: InhibitReason[] = [];
  if ((bits & INHIBIT.PHYSICAL_ID_ALIASED) !== 0) names.push('physical ID aliased');
  if ((bits & INHIBIT.LOGICAL_ID_ALIASED) !== 0) names.push('logical ID aliased');
  if ((bits & INHIBIT.APIC_ID_MODIFIED) !== 0) names.push('APIC ID modified');
  if (baseModified) names.push('APIC base modified');
  return names;
}
