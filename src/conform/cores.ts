/**
 * A layer on every core: one thread each, with a seed of its own, since ioctls and comparing keep one core busy. Their
 * figures are added up; the first failure ends all. A failure names its own seed, so it is replayed by one thread.
 */
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { PACKAGE_ROOT } from '../package-root.ts';
import type { Failure, Result } from './campaign.ts';
import { Coverage } from './coverage.ts';
import { batchSeed } from './random.ts';
import { type LayerOptions, runLayer } from './run.ts';

const MAX_THREADS = 8;
/** Batches of one thread never reach the next one's seeds. */
const SEEDS_APART = 1 << 20;

export type ThreadOptions = Omit<LayerOptions, 'onProgress'>;

/** What a thread tells: all figures so far, and at the end whether something failed. */
export interface ThreadReport {
  readonly cases: number;
  readonly machines: number;
  readonly coverage: Coverage['entries'];
  readonly done: boolean;
  readonly failure: Failure | undefined;
}

/** As runLayer, on as many cores as there are. Layer 3 has threads of its own. */
export async function runLayerOnCores(options: LayerOptions): Promise<Result> {
  const count = Math.min(availableParallelism(), MAX_THREADS);
  if (options.layer === 3 || options.path !== undefined || count === 1) return runLayer(options);
  const { onProgress, ...plain } = options;
  const start = Date.now();
  const threads = Array.from({ length: count }, () => new Worker(new URL('dist/bundle/main.cjs', PACKAGE_ROOT)));
  const reports = new Map<number, ThreadReport>();
  const sum = (): Result => addUp([...reports.values()], Date.now() - start);
  try {
    await new Promise<void>((resolve, reject) => {
      for (const [i, thread] of threads.entries()) {
        thread.on('error', reject);
        thread.on('message', (report: ThreadReport) => {
          reports.set(i, report);
          onProgress?.(sum());
          if (report.failure !== undefined) resolve();
          if ([...reports.values()].filter(({ done }) => done).length === count) resolve();
        });
        const mine: ThreadOptions = { ...plain, seed: batchSeed(plain.seed, i * SEEDS_APART) };
        thread.postMessage(mine);
      }
    });
    return sum();
  } finally {
    await Promise.all(threads.map((thread) => thread.terminate()));
  }
}

function addUp(reports: readonly ThreadReport[], millis: number): Result {
  const coverage = new Coverage([]);
  let cases = 0;
  let machines = 0;
  for (const report of reports) {
    coverage.add(report.coverage);
    cases += report.cases;
    machines += report.machines;
  }
  return { cases, machines, millis, coverage, failure: reports.find(({ failure }) => failure !== undefined)?.failure };
}
