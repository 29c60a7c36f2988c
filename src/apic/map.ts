/**
 * The optimized APIC map: who has which physical and logical ID, so that routing needs no scan.
 *
 * Rebuilt from scratch by whoever changed an ID, a mode or an enable bit, under a lock, with KVM's protocol
 * (kvm_recalculate_apic_map): CLEAN -> DIRTY by anyone without the lock, DIRTY -> UPDATING -> CLEAN under it. A change that
 * comes during a rebuild leaves DIRTY, and its author, who waits for the lock, rebuilds once more.
 *
 * Readers take no lock. There are two buffers and two sequence numbers: the builder stores BUILDING = n before it touches
 * buffer n & 1, and PUBLISHED = n when it is complete. A reader loads PUBLISHED = s, reads buffer s & 1, then loads
 * BUILDING: up to s + 1 the builder was in the other buffer all the time, so what was read was whole; otherwise it reads
 * again. Both stores are Atomics (sequentially consistent) and x86 keeps loads in order, so this needs no fence of its own.
 *
 * Unlike KVM's, the table has room for every ID that addApic accepts, so there is no -E2BIG retry.
 */
import { type ApicBehaviour, LOGICAL } from './behaviour.ts';
import { BROADCAST } from './fields.ts';
import type { ApicHost } from './host.ts';
import { isPresent, isX2apicMode, x2apicId, xapicId } from './identity.ts';
import { type ApicMemory, HEADER, MAP, type MapWord } from './layout.ts';
import { lock, unlock } from './lock.ts';

const DIRT = { CLEAN: 0, UPDATING: 1, DIRTY: 2 } as const;

/** MAP.STATE: why there is a map, or none. */
export const MAP_STATE = { NOT_BUILT: 0, PRESENT: 1, ALIASED: 2, NO_MEMORY: 3 } as const;

/** APICv inhibit reasons of a rebuild (APICV_INHIBIT_REASON_...), as bits of MAP.INHIBITS. */
export const INHIBIT = {
  PHYSICAL_ID_ALIASED: 1,
  LOGICAL_ID_ALIASED: 2,
  APIC_ID_MODIFIED: 4,
} as const;

/** Why a map of this state is none, in words. */
export function whyNoMap(state: number, vcpuIndex: number): string {
  if (state === MAP_STATE.NO_MEMORY) return 'its memory could not be allocated';
  if (state === MAP_STATE.ALIASED) return `the physical ID of vCPU ${vcpuIndex} is another one's too`;
  return 'not built yet';
}

export class ApicMap {
  readonly #memory: ApicMemory;
  readonly #words: Int32Array;
  readonly #behaviour: ApicBehaviour;
  readonly #host: ApicHost;

  constructor(memory: ApicMemory, behaviour: ApicBehaviour, host: ApicHost) {
    this.#memory = memory;
    this.#words = memory.words;
    this.#behaviour = behaviour;
    this.#host = host;
  }

  /** Something that the map says has changed. The caller has stored the change already, and calls `recalculate` soon. */
  markDirty(): void {
    Atomics.store(this.#words, HEADER.MAP_DIRTY, DIRT.DIRTY);
  }

  /** Rebuilds the map if it is dirty. Any thread; returns when a map is published that contains the caller's changes. */
  recalculate(): void {
    // Plain: our own change is seen, another's is its author's duty. Apart from the rest, so that V8 inlines it.
    if (this.#words[HEADER.MAP_DIRTY] !== DIRT.CLEAN) this.#rebuild();
  }

  #rebuild(): void {
    const words = this.#words;
    lock(words, HEADER.MAP_LOCK, 'a rebuild of the APIC map');
    try {
      if (Atomics.compareExchange(words, HEADER.MAP_DIRTY, DIRT.DIRTY, DIRT.UPDATING) !== DIRT.CLEAN) {
        const serial = (Atomics.load(words, HEADER.MAP_PUBLISHED) + 1) | 0;
        Atomics.store(words, HEADER.MAP_BUILDING, serial);
        const m = this.#memory.mapBuffer(serial);
        this.#build(m);
        Atomics.store(words, HEADER.MAP_PUBLISHED, serial);
        // If another change has come in, this leaves DIRTY.
        Atomics.compareExchange(words, HEADER.MAP_DIRTY, DIRT.UPDATING, DIRT.CLEAN);
        if (this.#host.trace !== null) this.#tell(serial, m);
      }
    } finally {
      unlock(words, HEADER.MAP_LOCK);
    }
  }

  #tell(serial: number, m: MapWord): void {
    const state = this.#words[m + MAP.STATE];
    const reason = state === MAP_STATE.PRESENT ? null : whyNoMap(state, this.#words[m + MAP.REASON_INDEX]);
    this.#host.trace?.event({ kind: 'map', serial, reason });
  }

  #build(m: MapWord): void {
    const words = this.#words;
    const memory = this.#memory;
    const count = memory.count;
    words.fill(0, m, m + MAP.PHYSICAL + words[m + MAP.MAX_APIC_ID] + 1);
    let maxId: number = BROADCAST.XAPIC; // room for any xAPIC ID
    for (let i = 0; i < count; i++) {
      const r = memory.identity(i);
      if (isPresent(words, r) && x2apicId(words, r) > maxId) maxId = x2apicId(words, r);
    }
    words[m + MAP.MAX_APIC_ID] = maxId;
    if (memory.options.failMapAllocation) {
      words[m + MAP.STATE] = MAP_STATE.NO_MEMORY;
      words[m + MAP.INHIBITS] = INHIBIT.PHYSICAL_ID_ALIASED | INHIBIT.LOGICAL_ID_ALIASED;
      return;
    }
    words[m + MAP.LOGICAL_MODE] = LOGICAL.NONE_ENABLED;
    let inhibits = 0;
    let state: number = MAP_STATE.PRESENT;
    for (let i = 0; i < count; i++) {
      const r = memory.identity(i);
      if (!isPresent(words, r)) continue;
      const id = x2apicId(words, r);
      // It appeared between the two passes: there is room, but the reader's bound must know.
      if (id > words[m + MAP.MAX_APIC_ID]) words[m + MAP.MAX_APIC_ID] = id;
      // Truncated on purpose, as in KVM: an ID over 0xff is aliased, not modified.
      if (!isX2apicMode(words, r) && xapicId(words, r) !== (id & BROADCAST.XAPIC)) inhibits |= INHIBIT.APIC_ID_MODIFIED;
      if (!this.#behaviour.addPhysical(m, r, i + 1)) {
        state = MAP_STATE.ALIASED;
        words[m + MAP.REASON_INDEX] = i;
        break;
      }
      this.#behaviour.addLogical(m, r, i + 1);
    }
    if (state === MAP_STATE.ALIASED) inhibits |= INHIBIT.PHYSICAL_ID_ALIASED | INHIBIT.LOGICAL_ID_ALIASED;
    if (words[m + MAP.LOGICAL_MODE] === LOGICAL.DISABLED) inhibits |= INHIBIT.LOGICAL_ID_ALIASED;
    words[m + MAP.INHIBITS] = inhibits;
    words[m + MAP.STATE] = state;
  }
}
