/**
 * The shared memory: everything about every APIC that outlives one call, in one buffer, drawn here and nowhere else.
 *
 *   word 0                     header (64 words)
 *   word 64                    identity records: 8 words for each vCPU, in order of creation, maxApics of them. Packed, so
 *                              that a scan of 1,024 APICs and a map rebuild read 32 KiB and nothing else
 *   blocksAt                   APIC block of vCPU 0 (320 words)
 *   blocksAt + 320             APIC block of vCPU 1 ...
 *   mapsAt                     map buffer 0: 80 words, then one word for each APIC ID
 *   mapsAt + mapWords          map buffer 1
 *
 *   APIC block
 *   +0                         the register page, as KVM_GET_LAPIC has it: 1,024 bytes, register r at byte r
 *   +256                       inbox (16 words, a cache line of its own): what senders may touch
 *   +272                       control (48 words): what only the owner touches
 *
 *   identity record            who the APIC is to the others: copies of what the owner's registers say, since senders and
 *                              builders must not read a page that is half written. core.ts publishes it
 *
 * Owner = the thread that runs the vCPU. Sender = any thread. Builder = whoever holds MAP_LOCK.
 *
 *   word                  written by                            read by
 *   --------------------  ------------------------------------  ----------------------------------------------
 *   page TMR              senders (or, and), before IRR         owner
 *   page IRR              senders (or), owner (and)             owner
 *   page TMR, IRR also    owner (plain; reset stores IRR), when it resets or takes a whole state
 *   page PPR              owner (plain)                         owner; senders (plain), for arbitration.ts
 *   page, all the rest    owner (plain)                         owner
 *   identity record       owner (plain), before MAP_DIRTY       builders, senders (plain)
 *     APIC_ID             addApic (plain), once                 builders, senders (plain)
 *   inbox EVENTS          senders (INIT stores, SIPI ors)       owner (exchange)
 *   inbox EVENTS also     senders (a remote read ors), owner (store 0 at power-up; or, postEvents)
 *   inbox SIPI_VECTOR     senders (store), before EVENTS        owner, after EVENTS
 *   inbox NMIS, SMIS      senders (add)                         owner (exchange)
 *   inbox NMIS also       owner (store 0, when it resets)
 *   inbox ARB_PRIORITY    senders (add), owner (store 0)        senders
 *   control *             owner (plain)                         owner; snapshots
 *   header MAGIC, RULES,  create, before anybody attaches       everyone (plain)
 *     OPTIONS
 *   header COUNT          addApic (store), after the block      everyone (load)
 *   header MAP_DIRTY      owners (store DIRTY), builder         everyone (plain: recalculate), builder
 *                         (compare-exchange to UPDATING, CLEAN)
 *   header MAP_LOCK       builders (compare-exchange, exchange) builders
 *   header ADD_LOCK       addApic (the same)                    addApic
 *   header MAP_PUBLISHED  builder (store)                       senders, snapshots (load)
 *   header MAP_BUILDING   builder (store)                       senders, snapshots (load)
 *   header BASE_MODIFIED  owners (store 1)                      snapshots (load)
 *   map buffers           builder (plain), between stores to    senders, snapshots (plain), between loads of
 *                         MAP_BUILDING and MAP_PUBLISHED        PUBLISHED and BUILDING (map.ts: why that is enough)
 *
 * `LocalApic.restore` stores the whole block (plain), while nobody sends.
 *
 * Two orders matter, and are repeated where they are kept: TMR before IRR (an owner that sees the IRR bit must see its
 * trigger mode), and bits before wake (whoever wakes up must find why).
 */
import { OPTION_WORDS, optionsToWords, type ResolvedOptions, wordsToOptions } from './options.ts';
import { STATE_BYTES } from './registers.ts';
import { bitsToBroken, brokenToBits, RULE_NAMES, RULE_WORDS, type Rules, rulesOf } from './rules.ts';

/** Header words. */
export const HEADER = {
  MAGIC: 0,
  COUNT: 1,
  RULES: 2, // RULE_WORDS of them
  OPTIONS: 4, // OPTION_WORDS of them (options.ts)
  // Words below change while the machine runs; each has a cache line of its own.
  MAP_DIRTY: 16,
  MAP_PUBLISHED: 32,
  MAP_BUILDING: 33,
  MAP_LOCK: 48,
  ADD_LOCK: 49,
  BASE_MODIFIED: 50,
} as const;
const HEADER_WORDS = 64;
const MAGIC = 0x61706963; // 'apic'

/** Words of an APIC block, from its start. */
export const PAGE_WORDS = STATE_BYTES >>> 2;
export const INBOX = {
  EVENTS: PAGE_WORDS,
  SIPI_VECTOR: PAGE_WORDS + 1,
  NMIS: PAGE_WORDS + 2,
  SMIS: PAGE_WORDS + 3,
  ARB_PRIORITY: PAGE_WORDS + 4,
} as const;
const CONTROL_AT = PAGE_WORDS + 16;
export const CONTROL = {
  BASE_LOW: CONTROL_AT + 1,
  BASE_HIGH: CONTROL_AT + 2,
  BOOTSTRAP: CONTROL_AT + 3,
  ISR_COUNT: CONTROL_AT + 4,
  ISR_HIGHEST: CONTROL_AT + 5,
  TIMER_MODE: CONTROL_AT + 6,
  TIMER_DIVISOR: CONTROL_AT + 7,
  TIMER_PENDING: CONTROL_AT + 8,
  TIMER_ARMED: CONTROL_AT + 9,
  DEADLINE_LOW: CONTROL_AT + 10,
  DEADLINE_HIGH: CONTROL_AT + 11,
  // 64-bit floats: even words
  TIMER_PERIOD: CONTROL_AT + 12,
  TIMER_TARGET: CONTROL_AT + 14,
  COUNTERS: CONTROL_AT + 16, // 32 words
} as const;
export const APIC_WORDS = CONTROL_AT + 48;

/** Words of an identity record, from its start. */
export const IDENTITY = { FLAGS: 0, APIC_ID: 1, XAPIC_ID: 2, LDR: 3, DFR: 4 } as const;
const IDENTITY_WORDS = 8;

/** Words of a map buffer, from its start. An entry is a vCPU index + 1; 0 is nobody. */
export const MAP = {
  STATE: 0,
  LOGICAL_MODE: 1,
  MAX_APIC_ID: 2,
  INHIBITS: 3,
  HAS_XAPIC: 4,
  REASON_INDEX: 5,
  FLAT: 8, // 8 words
  CLUSTER: 16, // 16 clusters of 4
  PHYSICAL: 80,
} as const;

/**
 * First words of the three kinds of thing in the buffer. Only ApicMemory makes them: a vCPU index, or the word of another
 * thing, where one of them belongs is a type error.
 */
declare const kind: unique symbol;
type WordOf<Kind extends string> = number & { readonly [kind]: Kind };
/** Of an APIC block. */
export type BlockWord = WordOf<'block'>;
/** Of an identity record. */
export type RecordWord = WordOf<'record'>;
/** Of a map buffer. */
export type MapWord = WordOf<'map'>;
/** In place of the sender's record, when a device sends. */
export const NO_RECORD = -1 as RecordWord;

/** The buffer, its views and the options that its header holds. One for each thread that uses it. */
export class ApicMemory {
  readonly buffer: SharedArrayBuffer | ArrayBuffer;
  readonly words: Int32Array;
  readonly doubles: Float64Array;
  readonly bytes: Uint8Array;
  readonly options: ResolvedOptions;
  readonly rules: Readonly<Rules>;
  readonly #blocksAt: number;
  readonly #mapsAt: number;
  readonly #mapWords: number;

  private constructor(buffer: SharedArrayBuffer | ArrayBuffer, options: ResolvedOptions) {
    this.buffer = buffer;
    this.words = new Int32Array(buffer);
    this.doubles = new Float64Array(buffer);
    this.bytes = new Uint8Array(buffer);
    this.options = { ...options }; // a copy has fast properties: one that was filled name by name is a dictionary to V8
    this.rules = rulesOf(options.behaviour, options.breakRules);
    this.#blocksAt = blocksAt(options.maxApics);
    this.#mapsAt = mapsAt(options.maxApics);
    this.#mapWords = mapWords(options.maxApicId);
  }

  static create(options: ResolvedOptions): ApicMemory {
    const bytes = (mapsAt(options.maxApics) + 2 * mapWords(options.maxApicId)) * 4;
    const buffer = options.shared ? new SharedArrayBuffer(bytes) : new ArrayBuffer(bytes);
    const memory = new ApicMemory(buffer, options);
    const { words } = memory;
    words[HEADER.MAGIC] = MAGIC;
    optionsToWords(options, words, HEADER.OPTIONS);
    brokenToBits(options.breakRules, words, HEADER.RULES);
    return memory;
  }

  /** Throws RangeError if the buffer was not made by `create`. */
  static attach(buffer: SharedArrayBuffer | ArrayBuffer): ApicMemory {
    const words = new Int32Array(buffer, 0, Math.min(HEADER_WORDS, buffer.byteLength >>> 2));
    if (words[HEADER.MAGIC] !== MAGIC) throw new RangeError('this buffer holds no APIC system');
    const options = wordsToOptions(words, HEADER.OPTIONS);
    return new ApicMemory(buffer, { ...options, breakRules: bitsToBroken(words, HEADER.RULES) });
  }

  /** How many APICs there are. Acquire: their blocks are complete. */
  get count(): number {
    return Atomics.load(this.words, HEADER.COUNT);
  }

  /** First word of a vCPU's block. */
  block(vcpuIndex: number): BlockWord {
    return (this.#blocksAt + vcpuIndex * APIC_WORDS) as BlockWord;
  }

  /** First word of a vCPU's identity record. */
  identity(vcpuIndex: number): RecordWord {
    return (HEADER_WORDS + vcpuIndex * IDENTITY_WORDS) as RecordWord;
  }

  /** First word of a map buffer; `parity` is a sequence number, of which the lowest bit counts. */
  mapBuffer(parity: number): MapWord {
    return (this.#mapsAt + (parity & 1) * this.#mapWords) as MapWord;
  }
}

const blocksAt = (maxApics: number): number => HEADER_WORDS + maxApics * IDENTITY_WORDS;
const mapsAt = (maxApics: number): number => blocksAt(maxApics) + maxApics * APIC_WORDS;
/** Room for every 8-bit ID, and for the 16 members of the last cluster. Even, so that everything stays 8-byte aligned. */
const mapWords = (maxApicId: number): number => MAP.PHYSICAL + ((Math.max(255, maxApicId) | 15) + 1);

if (RULE_NAMES.length > RULE_WORDS * 32) throw new Error('the header has too few words for the rules');
if (HEADER.OPTIONS + OPTION_WORDS > HEADER.MAP_DIRTY) throw new Error('the header has too few words for the options');
