/**
 * A thread of layer 3. It owns some APICs: the restless ones it changes all the time, all of them it lets take their
 * interrupts. And it sends: to each vector one message at a time, whose takers it then waits for, so that what was taken
 * must be exactly what the router said: fewer is a lost interrupt, more a doubled one.
 */
import { parentPort } from 'node:worker_threads';
import { APIC_EVENT, type ApicMessage, ApicSystem, DELIVERY, FROM_DEVICE, type LocalApic, REG } from '../apic/index.ts';
import { hex } from '../hex.ts';
import { Coverage } from './coverage.ts';
import { msrOf } from './operations.ts';
import {
  CONTROL,
  FIRST_VECTOR,
  PHASE,
  type RacingApic,
  type RoundPlan,
  type RoundReport,
  VECTORS,
} from './race-plan.ts';
import { Random } from './random.ts';

const XAPIC = 0xfee00800;
const X2APIC = 0xfee00c00;
const OFF = 0xfee00000;
/** Nobody is descheduled, or unlucky with the map lock, for so long: 8 s has happened, on two cores with a load of 30. */
const LOST_MILLIS = 30_000;
const ENABLED = 0x1ff;
const SPIV_VALUES = [0xff, ENABLED];
const SENDS_A_TURN = 8;
const SNAPSHOT_EVERY = 16;
const MAX_FAILURES = 5;

interface Outstanding {
  readonly vector: number;
  /** Takers so far, of all messages with this vector. */
  expected: number;
  since: number;
  message: string;
}

/** An APIC of this thread's. */
interface Own {
  readonly racing: RacingApic;
  readonly apic: LocalApic;
  /** Its vCPU index. */
  readonly index: number;
}

/** Changes of a restless APIC in xAPIC mode. */
type Change = (own: Own, random: Random) => void;
const changeId: Change = ({ apic, racing }, random) => apic.writeMmio(REG.ID, 4, random.pick(racing.ids) * 2 ** 24);
const changeLdr: Change = ({ apic, racing }, random) =>
  apic.writeMmio(REG.LDR, 4, random.pick(racing.logicalIds) * 2 ** 24);
const changeEnable: Change = ({ apic }, random) => apic.writeMmio(REG.SPIV, 4, random.pick(SPIV_VALUES));
const switchOff: Change = ({ apic }) => void apic.setApicBase(OFF, 0);
const toX2apic: Change = ({ apic }) => void apic.setApicBase(X2APIC, 0);
const IN_XAPIC_MODE = [changeId, changeLdr, changeEnable, switchOff];
const ALL_CHANGES = [...IN_XAPIC_MODE, toX2apic, toX2apic];

/** What is sent, as often as it is worth. */
const KINDS = [
  ...(['physical', 'physical', 'physical', 'logical', 'broadcast', 'shorthand'] as const),
  ...(['lowest priority', 'event'] as const),
];
const NO_MATCH = -1;

interface Sending {
  readonly message: Omit<ApicMessage, 'vector'>;
  /** How many may take it; whatever is not said may. */
  readonly least?: number;
  readonly most?: number;
  /** As coverage has it, if that is not the kind. */
  readonly name?: string;
}

class Racer {
  readonly #plan: RoundPlan;
  readonly #system: ApicSystem;
  readonly #control: Int32Array;
  readonly #random: Random;
  readonly #own: readonly Own[];
  readonly #restless: readonly Own[];
  readonly #vectors: Outstanding[];
  readonly #coverage = new Coverage([]);
  readonly #failures: string[] = [];
  /** The vCPU that this thread alone starts, over and over: a steady one of the next thread. */
  readonly #startee: number;
  #starts = 0;
  #startedSince = 0;
  #sends = 0;

  constructor(plan: RoundPlan) {
    this.#plan = plan;
    this.#system = ApicSystem.attach(plan.memory);
    this.#control = new Int32Array(plan.control);
    this.#random = new Random(plan.seed + plan.worker * 7919);
    this.#own = plan.apics.flatMap((racing, index) =>
      racing.owner === plan.worker ? [{ racing, apic: this.#system.apic(index), index }] : [],
    );
    this.#restless = this.#own.filter(({ racing }) => !racing.steady);
    const each = Math.floor(VECTORS / plan.workers);
    const first = FIRST_VECTOR + plan.worker * each;
    this.#vectors = Array.from({ length: each }, (_, i) => ({ vector: first + i, expected: 0, since: 0, message: '' }));
    const next = (plan.worker + 1) % plan.workers;
    this.#startee = plan.apics.findIndex(({ owner, steady }) => steady && owner === next);
  }

  race(): RoundReport {
    const control = this.#control;
    for (let turn = 0; Atomics.load(control, CONTROL.PHASE) === PHASE.RACE; turn++) {
      if (turn % SNAPSHOT_EVERY === 0) this.#lookAtMap();
      for (const each of this.#restless) this.#toggle(each);
      this.#take();
      for (let i = 0; i < SENDS_A_TURN; i++) this.#send();
    }
    for (const each of this.#restless) this.#settle(each);
    this.#barrier(CONTROL.SENT);
    const limit = Date.now() + LOST_MILLIS;
    while (this.#vectors.some((each) => !this.#isDone(each)) && Date.now() < limit) this.#take();
    this.#barrier(CONTROL.DRAINED);
    this.#take();
    for (const each of this.#vectors) this.#check(each, true);
    return { sends: this.#sends, failures: this.#failures, coverage: this.#coverage.entries };
  }

  #fail(text: string): void {
    if (this.#failures.length < MAX_FAILURES) this.#failures.push(`thread ${this.#plan.worker}: ${text}`);
  }

  /** Every thread is here; until then this one goes on to let its APICs take what comes. */
  #barrier(word: number): void {
    Atomics.add(this.#control, word, 1);
    while (Atomics.load(this.#control, word) < this.#plan.workers) this.#take();
  }

  /** One change of a restless APIC. */
  #toggle(own: Own): void {
    const { apic } = own;
    const random = this.#random;
    if (apic.mode === 'x2apic' && random.below(2) === 0) apic.writeMsr(msrOf(REG.SPIV), random.pick(SPIV_VALUES), 0);
    else if (apic.mode !== 'xapic') this.#settle(own);
    else random.pick(this.#plan.kind === 'ids' ? IN_XAPIC_MODE : ALL_CHANGES)(own, random);
  }

  /** Back to xAPIC mode, software-enabled, with an ID and a logical ID of its own choice: what is pending can be taken. */
  #settle(own: Own): void {
    const { apic } = own;
    if (apic.mode === 'x2apic') apic.setApicBase(OFF, 0);
    apic.setApicBase(XAPIC, 0);
    changeId(own, this.#random);
    changeLdr(own, this.#random);
    apic.writeMmio(REG.SPIV, 4, ENABLED);
  }

  /** Everything that this thread's APICs may take. */
  #take(): void {
    const control = this.#control;
    for (const { apic, index } of this.#own) {
      for (let vector = apic.acknowledge(); vector >= 0; vector = apic.acknowledge()) {
        apic.eoi();
        Atomics.add(control, CONTROL.TAKEN + vector, 1);
      }
      if (apic.hasNmi()) Atomics.add(control, CONTROL.NMIS_TAKEN, apic.takeNmis());
      if (!apic.hasEvents()) continue;
      const events = apic.takeEvents();
      if ((events & APIC_EVENT.SIPI) !== 0) Atomics.add(control, CONTROL.STARTED + index, 1);
    }
  }

  #send(): void {
    const random = this.#random;
    const { apics } = this.#plan;
    const slot = random.pick(this.#vectors);
    if (!this.#isDone(slot)) {
      this.#check(slot, false);
      return;
    }
    const index = random.below(apics.length);
    const target = apics[index];
    const source = random.below(2) === 0 ? FROM_DEVICE : random.pick(this.#own).index;
    const kind = random.pick(KINDS);
    this.#sends++;
    if (kind === 'event') {
      this.#sendEvent(target.ids[0]);
      return;
    }
    // From an APIC in x2APIC mode, 0xff is an ID like any other.
    if (kind === 'broadcast' && source !== FROM_DEVICE && this.#system.apic(source).mode === 'x2apic') return;
    const { message, least = NO_MATCH, most = apics.length, name = kind } = this.#sending(kind, target, source);
    const result = this.#system.deliver({ ...message, source, vector: slot.vector });
    slot.expected += Math.max(result, 0);
    slot.since = Date.now();
    slot.message = `${kind} ${hex(message.destination)}`;
    if (result < least || result > most) this.#fail(`${slot.message}, vCPU ${index}: answer ${result}`);
    this.#coverage.hit(name === 'to a restless APIC' ? `${name}, ${result > 0 ? 'taken' : 'refused'}` : name);
  }

  #sending(kind: Exclude<(typeof KINDS)[number], 'event'>, target: RacingApic, source: number): Sending {
    const random = this.#random;
    const { steady, apicId, ids, logicalIds } = target;
    const trigMode = random.below(4) === 0;
    const one = { least: 1, most: 1 };
    switch (kind) {
      case 'physical':
        // A steady APIC is in xAPIC mode; a wide ID only works for others through the hack or by scan.
        if (steady) return { message: { destination: ids[0], trigMode }, ...one, name: 'to a steady APIC' };
        return { message: { destination: random.pick([...ids, apicId]), trigMode }, name: 'to a restless APIC' };
      case 'logical': {
        const [destination] = logicalIds;
        // The others' logical IDs have other bits, in whatever mode they are; in round `aliases` only the restless share.
        return { message: { destination, logical: true, trigMode }, ...(steady && destination !== 0 ? one : {}) };
      }
      case 'broadcast':
        return {
          message: { destination: 0xff, trigMode },
          least: this.#plan.apics.filter(({ steady }) => steady).length,
        };
      case 'shorthand':
        return { message: { destination: 0, shorthand: source === FROM_DEVICE ? 2 : random.pick([1, 2, 3]) } };
      case 'lowest priority': {
        const logical = random.below(2) === 0;
        const destination = logical ? random.below(256) : ids[0];
        return { message: { destination, logical, deliveryMode: DELIVERY.LOWEST }, most: 1 };
      }
    }
  }

  /** An NMI to anyone; or INIT and SIPI to the one vCPU that is this thread's to start. */
  #sendEvent(destination: number): void {
    const control = this.#control;
    const [{ vector }] = this.#vectors;
    if (this.#random.below(2) === 0 || this.#startee < 0) {
      const result = this.#system.deliver({ destination, vector, deliveryMode: DELIVERY.NMI });
      Atomics.add(control, CONTROL.NMIS_SENT, Math.max(result, 0));
      this.#coverage.hit('NMI');
      return;
    }
    const started = Atomics.load(control, CONTROL.STARTED + this.#startee);
    if (started > this.#starts) this.#fail(`vCPU ${this.#startee}: ${started} SIPIs taken, ${this.#starts} sent`);
    if (started < this.#starts) {
      if (Date.now() - this.#startedSince > LOST_MILLIS)
        this.#fail(`vCPU ${this.#startee}: SIPI ${this.#starts} was lost`);
      return;
    }
    const [to] = this.#plan.apics[this.#startee].ids;
    const init = this.#system.deliver({ destination: to, vector: 0, deliveryMode: DELIVERY.INIT });
    const sipi = this.#system.deliver({ destination: to, vector: 8, deliveryMode: DELIVERY.STARTUP });
    if (init !== 1 || sipi !== 1) this.#fail(`INIT, SIPI to ${hex(to)}: answers ${init}, ${sipi}`);
    this.#starts++;
    this.#startedSince = Date.now();
    this.#coverage.hit('INIT and SIPI');
  }

  #isDone({ vector, expected }: Outstanding): boolean {
    return Atomics.load(this.#control, CONTROL.TAKEN + vector) === expected;
  }

  #check(slot: Outstanding, atEnd: boolean): void {
    const taken = Atomics.load(this.#control, CONTROL.TAKEN + slot.vector);
    const what = `vector ${hex(slot.vector)}, last sent ${slot.message}: ${taken} taken, ${slot.expected} accepted`;
    if (taken > slot.expected) this.#fail(`doubled: ${what}`);
    if (taken < slot.expected && (atEnd || Date.now() - slot.since > LOST_MILLIS)) this.#fail(`lost: ${what}`);
  }

  /** A whole map, if there is one, has every steady APIC, in xAPIC mode, under its own ID. */
  #lookAtMap(): void {
    const map = this.#system.map();
    this.#coverage.hit(map.state === 'map' ? 'map present' : 'map disabled');
    if (map.state !== 'map') return;
    this.#coverage.hit(map.logicalMode === 'disabled' ? 'logical map disabled' : 'logical map present');
    for (const [index, { steady, ids }] of this.#plan.apics.entries()) {
      const [id] = ids;
      if (steady && map.physical.get(id) !== index)
        this.#fail(`half a map: no ${hex(id)} (vCPU ${index}) in map ${map.serial}`);
    }
  }
}

parentPort?.on('message', (plan: RoundPlan) => parentPort?.postMessage(new Racer(plan).race()));
