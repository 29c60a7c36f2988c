/**
 * Layer 3: races. Threads share the APICs of one machine: each changes its own all the time (mode, xAPIC ID, LDR, software
 * enable) and sends to everyone's. No interrupt may be lost or doubled beyond what the rules allow, nobody may see half a
 * map, and when the dust has settled the map is the one that a single thread would have built, and agrees with the scan.
 * Needs no KVM. A case is one message sent; a machine is a round of about a second.
 */
import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { setTimeout } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { type ApicMapSnapshot, ApicSystem, type ApicSystemOptions, REG, STATE_BYTES } from '../apic/index.ts';
import { hex } from '../hex.ts';
import { PACKAGE_ROOT } from '../package-root.ts';
import type { Suite } from './campaign.ts';
import { Coverage } from './coverage.ts';
import {
  CONTROL,
  CONTROL_WORDS,
  MAX_WORKERS,
  PHASE,
  type RacingApic,
  ROUND_KINDS,
  type Round,
  type RoundPlan,
  type RoundReport,
} from './race-plan.ts';
import { Random } from './random.ts';

const RACE_COVERAGE = [
  'gate on',
  'gate off',
  'workers: as many as cores',
  'workers: more than cores',
  'to a steady APIC',
  'to a restless APIC, taken',
  'to a restless APIC, refused',
  'logical',
  'broadcast',
  'shorthand',
  'lowest priority',
  'NMI',
  'INIT and SIPI',
  'map present',
  'map disabled',
  'logical map present',
  'logical map disabled',
  'map rebuilt',
];

const ROUND_MILLIS = 500;
const SETTLED_MESSAGES = 2000;
/** Far beyond what a thread waits for a lost interrupt. */
const ROUND_TIMEOUT_MILLIS = 120_000;

export class Layer3 implements Suite<Round> {
  readonly batch = 1;
  readonly coverage = new Coverage(RACE_COVERAGE);
  cases = 0;
  readonly #model: ApicSystemOptions;
  readonly #workers: Worker[] = [];
  #rounds = 0;

  /** @param model the behaviour, the rules to break */
  constructor(model: ApicSystemOptions) {
    this.#model = model;
  }

  /** The next round. Both gates and the liveliest kind come first; all combinations within 24 rounds. */
  prepare(seed: number): fc.Arbitrary<Round> {
    const n = this.#rounds++;
    const cores = availableParallelism();
    const workers = Math.max(2, Math.min([cores, cores + 1, 2 * cores, 4 * cores][n % 4], MAX_WORKERS));
    const kind = ROUND_KINDS[Math.floor(n / 2) % ROUND_KINDS.length];
    return fc.constant({ kind, workers, x2apicFormat: (n + Math.floor(n / 4)) % 2 === 0, seed });
  }

  /** Chance decides: what failed need not fail again. */
  shorter(): Round[] {
    return [];
  }

  describe({ kind, workers, x2apicFormat }: Round): string[] {
    return [`${kind}, ${workers} threads, 32-bit IDs ${x2apicFormat ? 'on' : 'off'}:`];
  }

  async judge(round: Round): Promise<string[] | undefined> {
    const failures = await this.#race(round);
    return failures.length === 0 ? undefined : failures.map((each) => `  ${each}`);
  }

  async close(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }

  async #race(round: Round): Promise<string[]> {
    const { kind, workers, x2apicFormat, seed } = round;
    const { coverage } = this;
    coverage.hit(x2apicFormat ? 'gate on' : 'gate off');
    coverage.hit(workers > availableParallelism() ? 'workers: more than cores' : 'workers: as many as cores');
    const apics = makeApics(round);
    const options = { ...this.#model, x2apicFormat, broadcastQuirkDisabled: false, maxApics: apics.length };
    const system = new ApicSystem(options);
    for (const { apicId, ids, logicalIds } of apics) {
      const apic = system.addApic(apicId, { bootstrap: false });
      apic.writeMmio(REG.SPIV, 4, 0x1ff);
      apic.writeMmio(REG.ID, 4, ids[kind === 'aliases' && ids.length > 1 ? 1 : 0] * 2 ** 24); // aliased at once
      apic.writeMmio(REG.LDR, 4, logicalIds[0] * 2 ** 24);
    }
    const before = system.map().serial;
    const control = new SharedArrayBuffer(CONTROL_WORDS * 4);
    const words = new Int32Array(control);
    Atomics.store(words, CONTROL.PHASE, PHASE.RACE);
    while (this.#workers.length < workers)
      this.#workers.push(new Worker(new URL('dist/bundle/race-worker.cjs', PACKAGE_ROOT)));
    const memory = system.memory as SharedArrayBuffer;
    const reports = Promise.allSettled(
      this.#workers
        .slice(0, workers)
        .map((thread, worker) => ask(thread, { ...round, worker, memory, control, apics })),
    );
    await setTimeout(ROUND_MILLIS);
    Atomics.store(words, CONTROL.PHASE, PHASE.SETTLE);
    const answers = await reports;
    const failures = answers.flatMap((answer, worker) =>
      answer.status === 'rejected' ? [`thread ${worker}: ${answer.reason}`] : answer.value.failures,
    );
    for (const answer of answers) {
      if (answer.status === 'rejected') return failures; // what it holds or has half built would stop this thread too
      this.cases += answer.value.sends;
      coverage.add(answer.value.coverage);
    }
    coverage.hit('map rebuilt', system.map().serial - before);
    const [sent, taken] = [words[CONTROL.NMIS_SENT], words[CONTROL.NMIS_TAKEN]];
    if (sent !== taken) failures.push(`${sent} NMIs were accepted, ${taken} taken`);
    return [...failures, ...settled(system, options, apics, new Random(seed))];
  }
}

async function ask(thread: Worker, plan: RoundPlan): Promise<RoundReport> {
  const signal = AbortSignal.timeout(ROUND_TIMEOUT_MILLIS);
  const answer = once(thread, 'message', { signal });
  thread.postMessage(plan);
  try {
    const [report] = (await answer) as [RoundReport];
    return report;
  } catch (error) {
    throw signal.aborted ? new Error('it does not answer: it waits for a lock, or turns in a loop') : error;
  }
}

/**
 * For each thread one steady APIC and two restless ones. Steady IDs are 1, 2, ... with logical bits 0, 1, 2 for the first
 * three; the restless have IDs over 0xff, whose low bytes and spare xAPIC IDs nobody else has, and logical bits 3 to 7.
 */
function makeApics({ workers, kind, seed }: Round): RacingApic[] {
  const random = new Random(seed);
  const list: RacingApic[] = [];
  for (let owner = 0; owner < workers; owner++) {
    const id = owner + 1;
    list.push({ apicId: id, owner, steady: true, ids: [id], logicalIds: [owner < 3 ? 1 << owner : 0] });
    for (let i = 0; i < 2; i++) {
      const low = 0x40 + owner * 4 + i * 2;
      const shared = [0xe0, 0xe1, 0xe2];
      list.push({
        apicId: 0x100 * (1 + random.below(15)) + low,
        owner,
        steady: false,
        ids: kind === 'aliases' ? [low, ...shared] : [low, low + 1],
        logicalIds: kind === 'aliases' ? [0, 8, 16, 24] : [0],
      });
    }
  }
  return list;
}

/** Nobody moves any more: is the map what one thread would have built, and does the scan say the same? */
function settled(
  system: ApicSystem,
  options: ApicSystemOptions,
  apics: readonly RacingApic[],
  random: Random,
): string[] {
  const fresh = new ApicSystem(options);
  const page = new Uint8Array(STATE_BYTES);
  for (const [index, { apicId }] of apics.entries()) {
    const apic = fresh.addApic(apicId, { bootstrap: false });
    const settledApic = system.apic(index);
    apic.setApicBaseFromHost(settledApic.apicBaseLow, settledApic.apicBaseHigh);
    apic.setState(settledApic.getState(page));
  }
  const failures: string[] = [];
  const [theirs, ours] = [mapText(fresh.map()), mapText(system.map())];
  if (theirs !== ours) failures.push(`the map is ${ours}`, `and should be ${theirs}`);
  for (let i = 0; i < SETTLED_MESSAGES; i++) {
    const target = random.pick(apics);
    const destination = random.pick([target.apicId, random.below(256), random.pick(target.ids), 0xff, 0xffffffff]);
    const message = { destination, logical: random.below(2) === 0, vector: 0x31 };
    const found = system.differences(message).find(({ name }) => name === null);
    if (found !== undefined) {
      failures.push(`map and scan disagree about ${hex(destination)} and vCPU ${found.vcpuIndex} (${found.only} only)`);
      break;
    }
  }
  return failures;
}

const mapText = ({ serial: _, physical, logical, ...rest }: ApicMapSnapshot): string =>
  JSON.stringify({ ...rest, physical: [...physical], logical: [...logical] });
