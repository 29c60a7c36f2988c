/** Records what the kernel under /dev/kvm answers to random cases (recorded.ts): lists of layer 1, then of layer 2. */
import { release } from 'node:os';
import fc from 'fast-check';
import type { Behaviour } from '../apic/index.ts';
import { KvmError } from '../kvm/index.ts';
import type { Prepared } from './campaign.ts';
import { compareOutcomes } from './compare.ts';
import { probeHost } from './host.ts';
import { KernelJudge } from './kernel-judge.ts';
import { Layer1 } from './layer1.ts';
import { ModelJudge } from './model-judge.ts';
import { withLooks } from './operations.ts';
import { batchSeed } from './random.ts';
import type { RecordedCase, Recording } from './recorded.ts';
import { KernelRig } from './registers/kernel-rig.ts';
import { prepareGuests } from './registers/layer2.ts';
import { askLowTpr, probeMachine } from './registers/probe.ts';
import { type RigSpec, rigKey } from './rigs.ts';
import type { Case, HostOperation, Judge, Outcome } from './spec.ts';

/** Lists of one batch share their rigs: with few in each, there are many different ones. */
const BATCH = { host: 60, guest: 60 } as const;
/** A list takes milliseconds. One that a busy host held up for longer is carried out once more: timers may have run out. */
const SLOW_NANOS = 1e9;
const ATTEMPTS = 5;

export interface RecordOptions {
  readonly seed: number;
  readonly behaviour: Behaviour;
  /** How many lists of operations: of the host's, and of a guest's. */
  readonly hostLists: number;
  readonly guestLists: number;
  /** May guests write CR8? */
  readonly cr8Writes: boolean;
  readonly onProgress: (lists: number) => void;
  /** The host ended the machines with a guest: what was recorded until then is kept. */
  readonly onTrouble: (what: string) => void;
}

/** @throws KvmError when the host has no KVM that can be used */
export async function record({
  seed,
  behaviour,
  hostLists,
  guestLists,
  cr8Writes,
  onProgress,
  onTrouble,
}: RecordOptions): Promise<Recording> {
  const host = probeHost();
  const guest = { ...host, ...(await probeMachine()) };
  const cases: RecordedCase[] = [];
  const add = (made: RecordedCase): void => {
    cases.push(made);
    onProgress(cases.length);
  };
  const kernel = new KernelJudge();
  const layer1 = new Layer1(kernel, host);
  const hostModel = new ModelJudge({ ...host, behaviour });
  for (let n = 0; n * BATCH.host < hostLists; n++) {
    const batch = batchSeed(seed, n);
    const count = Math.min(BATCH.host, hostLists - n * BATCH.host);
    for (const candidate of sample<Case<HostOperation>>(layer1.prepare(batch), batch, count))
      add(recordCase(kernel, hostModel, withLooks(candidate)));
  }
  layer1.close();
  const guestModel = new ModelJudge({ ...guest, behaviour });
  try {
    const lowTpr = guestLists > 0 && (await askLowTpr());
    for (let n = 0; n * BATCH.guest < guestLists; n++) {
      const batch = batchSeed(seed, n);
      const count = Math.min(BATCH.guest, guestLists - n * BATCH.guest);
      const { rigs, prepared } = prepareGuests(batch, guest, { lowTpr, cr8Writes });
      await onMachines(rigs, (machines) => {
        for (const candidate of sample(prepared, batch, count)) {
          const machine = machines.get(rigKey(candidate.machine));
          if (machine !== undefined) add(recordCase(machine, guestModel, candidate));
        }
      });
    }
  } catch (error) {
    if (!(error instanceof KvmError)) throw error;
    onTrouble(`with ${cases.length} lists: ${error.message.split('\n')[0]}`);
  }
  return { header: { kernel: release(), behaviour, host, guest }, cases };
}

async function onMachines(
  rigs: readonly RigSpec[],
  use: (machines: ReadonlyMap<string, KernelRig>) => void,
): Promise<void> {
  const machines = new Map<string, KernelRig>();
  try {
    for (const rig of rigs) machines.set(rigKey(rig), await KernelRig.create(rig));
    use(machines);
  } finally {
    for (const machine of machines.values()) machine.close();
  }
}

function sample<Made>({ arbitrary, resolve }: Prepared<unknown, Made>, seed: number, count: number): Made[] {
  return fc.sample(arbitrary, { seed, numRuns: count }).map((recipe) => resolve(recipe));
}

/** The reference's answers, and from the model what only time decides in them. */
export function recordCase(reference: Judge, model: ModelJudge, candidate: Case): RecordedCase {
  const known = model.carryOut(candidate);
  let outcome = reference.carryOut(candidate);
  for (let attempt = 1; attempt < ATTEMPTS && isDoubtful(outcome, known); attempt++)
    outcome = reference.carryOut(candidate);
  return { candidate, outcome: withTolerance(outcome, known) };
}

const isDoubtful = (outcome: Outcome, known: Outcome): boolean =>
  outcome.nanos > SLOW_NANOS || compareOutcomes(outcome, known).length > 0;

function withTolerance(outcome: Outcome, known: Outcome): Outcome {
  return {
    ...outcome,
    results: outcome.results.map((result, i) => {
      const tolerance = known.results[i]?.tolerance;
      return tolerance === undefined ? result : { ...result, tolerance };
    }),
    cpus: outcome.cpus.map((cpu, i) => {
      const count = known.cpus[i]?.count;
      return count === undefined ? cpu : { ...cpu, count };
    }),
  };
}
