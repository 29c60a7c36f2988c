/** Records what the kernel under /dev/kvm answers to random cases (recorded.ts): lists of layer 1, then of layer 2. */
import { release } from 'node:os';
import fc from 'fast-check';
import type { Behaviour } from '../apic/index.ts';
import { KvmError } from '../kvm/index.ts';
import { HostError } from '../machine/errors.ts';
import { compareOutcomes } from './compare.ts';
import { askMaxVcpuId, probeHost } from './host.ts';
import { KernelJudge } from './kernel-judge.ts';
import { Layer1 } from './layer1.ts';
import type { ModelJudge } from './model-judge.ts';
import { withLooks } from './operations.ts';
import { batchSeed } from './random.ts';
import type { RecordedCase, Recording } from './recorded.ts';
import { Layer2 } from './registers/layer2.ts';
import { probeMachine } from './registers/probe.ts';
import type { Case, Judge, Outcome } from './spec.ts';

/** Lists of one batch share their rigs: with few in each, there are many different ones. */
const BATCH = 60;
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
export async function record(options: RecordOptions): Promise<Recording> {
  const { seed, behaviour, hostLists, guestLists, cr8Writes } = options;
  const host = probeHost();
  const probe = await probeMachine();
  const guest = { ...host, ...probe.options };
  const cases: RecordedCase[] = [];
  const recordLists = async (layer: Layer1 | Layer2, lists: number): Promise<void> => {
    try {
      for (let done = 0; done < lists; done += BATCH) {
        const batch = batchSeed(seed, done / BATCH);
        const sizes = { seed: batch, numRuns: Math.min(BATCH, lists - done) };
        for (const candidate of fc.sample<Case>(layer.arbitrary(batch), sizes)) {
          cases.push(recordCase(await layer.reference(candidate.machine), layer.model, withLooks(candidate)));
          options.onProgress(cases.length);
        }
      }
    } finally {
      layer.close();
    }
  };
  await recordLists(new Layer1(new KernelJudge(), { ...host, behaviour }, { maxVcpuId: askMaxVcpuId() }), hostLists);
  try {
    await recordLists(new Layer2({ ...host, behaviour }, probe, cr8Writes), guestLists);
  } catch (error) {
    if (!(error instanceof KvmError || error instanceof HostError)) throw error;
    options.onTrouble(`with ${cases.length} lists: ${error.message.split('\n')[0]}`);
  }
  return { header: { kernel: release(), behaviour, host, guest }, cases };
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
