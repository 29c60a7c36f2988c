/**
 * Layer 3: races. Threads share the APICs of one machine: each changes its own all the time (mode, xAPIC ID, LDR, software
 * enable) and sends to everyone's. No interrupt may be lost or doubled beyond what the rules allow, nobody may see half a
 * map, and when the dust has settled the map is the one that a single thread would have built, and agrees with the scan.
 * Needs no KVM. A case is one message sent; a machine is a round of about a second.
 */
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { type ApicMapSnapshot, ApicSystem, type ApicSystemOptions, REG, STATE_BYTES } from '../apic/index.ts';
import { hex } from '../hex.ts';
import { PACKAGE_ROOT } from '../package-root.ts';
import type { CampaignOptions, Failure, Progress, Result } from './campaign.ts';
import { Coverage } from './coverage.ts';
import {
  CONTROL,
  CONTROL_WORDS,
  MAX_WORKERS,
  PHASE,
  type RacingApic,
  ROUND_KINDS,
  type RoundKind,
  type RoundPlan,
  type RoundReport,
} from './race-plan.ts';
import { batchSeed, Random } from './random.ts';

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

export async function runLayer3(model: ApicSystemOptions, options: CampaignOptions): Promise<Result> {
  const races = new Layer3(model, options);
  try {
    return await races.run();
  } finally {
    await races.close();
  }
}

class Layer3 {
  readonly #model: ApicSystemOptions;
  readonly #options: CampaignOptions;
  readonly #coverage = new Coverage(RACE_COVERAGE);
  readonly #workers: Worker[] = [];
  readonly #start = Date.now();
  #cases = 0;
  #rounds = 0;

  constructor(model: ApicSystemOptions, options: CampaignOptions) {
    this.#model = model;
    this.#options = options;
  }

  async run(): Promise<Result> {
    const { seed, millis } = this.#options;
    const cores = availableParallelism();
    const counts = [cores, cores + 1, 2 * cores, 4 * cores].map((count) => Math.max(2, Math.min(count, MAX_WORKERS)));
    let failure: Failure | undefined;
    for (let n = 0; failure === undefined && Date.now() - this.#start < millis; n++) {
      const workers = counts[n % counts.length] ?? cores;
      // Both gates and the liveliest kind come first; all combinations within 24 rounds.
      const kind = ROUND_KINDS[Math.floor(n / 2) % ROUND_KINDS.length] ?? 'ids';
      const gate = (n + Math.floor(n / counts.length)) % 2 === 0;
      const roundSeed = batchSeed(seed, n);
      const failures = await this.#round(kind, workers, gate, roundSeed);
      this.#rounds++;
      this.#options.onProgress?.(this.#progress());
      if (failures.length === 0) continue;
      failure = {
        seed,
        path: '',
        lines: [
          `round ${n} (${kind}, ${workers} threads, 32-bit IDs ${gate ? 'on' : 'off'}):`,
          ...failures.map((each) => `  ${each}`),
        ],
        json: '',
        foundAfterMillis: Date.now() - this.#start,
      };
    }
    return { ...this.#progress(), failure };
  }

  async close(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }

  #progress(): Progress {
    return { cases: this.#cases, machines: this.#rounds, millis: Date.now() - this.#start, coverage: this.#coverage };
  }

  async #round(kind: RoundKind, workers: number, x2apicFormat: boolean, seed: number): Promise<string[]> {
    const coverage = this.#coverage;
    coverage.hit(x2apicFormat ? 'gate on' : 'gate off');
    coverage.hit(workers > availableParallelism() ? 'workers: more than cores' : 'workers: as many as cores');
    const apics = makeApics(workers, kind, new Random(seed));
    const options = { ...this.#model, x2apicFormat, broadcastQuirkDisabled: false, maxApics: apics.length };
    const system = new ApicSystem(options);
    for (const { apicId, ids, logicalIds } of apics) {
      const apic = system.addApic(apicId, { bootstrap: false });
      apic.writeMmio(REG.SPIV, 4, 0x1ff);
      apic.writeMmio(REG.ID, 4, (ids[kind === 'aliases' && ids.length > 1 ? 1 : 0] ?? 0) * 2 ** 24); // aliased at once
      apic.writeMmio(REG.LDR, 4, (logicalIds[0] ?? 0) * 2 ** 24);
    }
    const before = system.map().serial;
    const control = new SharedArrayBuffer(CONTROL_WORDS * 4);
    const words = new Int32Array(control);
    Atomics.store(words, CONTROL.PHASE, PHASE.RACE);
    while (this.#workers.length < workers)
      this.#workers.push(new Worker(new URL('dist/bundle/race-worker.cjs', PACKAGE_ROOT)));
    const memory = system.memory as SharedArrayBuffer;
    const reports = this.#workers.slice(0, workers).map((thread, worker) => {
      const plan: RoundPlan = { kind, seed, workers, worker, memory, control, apics };
      return ask(thread, plan);
    });
    await new Promise((resolve) => setTimeout(resolve, ROUND_MILLIS));
    Atomics.store(words, CONTROL.PHASE, PHASE.SETTLE);
    const failures: string[] = [];
    const answers = await Promise.allSettled(reports);
    for (const [worker, answer] of answers.entries()) {
      if (answer.status === 'rejected') failures.push(`thread ${worker}: ${answer.reason}`);
      else failures.push(...answer.value.failures);
    }
    for (const answer of answers) {
      if (answer.status === 'rejected') return failures; // what it holds or has half built would stop this thread too
      this.#cases += answer.value.sends;
      coverage.add(answer.value.coverage);
    }
    coverage.hit('map rebuilt', system.map().serial - before);
    const [sent, taken] = [words[CONTROL.NMIS_SENT], words[CONTROL.NMIS_TAKEN]];
    if (sent !== taken) failures.push(`${sent} NMIs were accepted, ${taken} taken`);
    return [...failures, ...settled(system, options, apics, new Random(seed))];
  }
}

function ask(thread: Worker, plan: RoundPlan): Promise<RoundReport> {
  return new Promise((resolve, reject) => {
    const late = setTimeout(
      () => reject(new Error('it does not answer: it waits for a lock, or turns in a loop')),
      ROUND_TIMEOUT_MILLIS,
    );
    thread.once('message', (report: RoundReport) => {
      clearTimeout(late);
      thread.removeAllListeners('error');
      resolve(report);
    });
    thread.once('error', (error) => {
      clearTimeout(late);
      reject(error);
    });
    thread.postMessage(plan);
  });
}

/**
 * For each thread one steady APIC and two restless ones. Steady IDs are 1, 2, ... with logical bits 0, 1, 2 for the first
 * three; the restless have IDs over 0xff, whose low bytes and spare xAPIC IDs nobody else has, and logical bits 3 to 7.
 */
function makeApics(workers: number, kind: RoundKind, random: Random): RacingApic[] {
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
