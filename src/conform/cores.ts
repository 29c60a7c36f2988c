/**
 * A layer on every core: one thread each, with a seed of its own, since ioctls and comparing keep one core busy. Their
 * figures are added up; the first failure ends all. A failure names its own seed, so it is replayed by one thread.
 */
import { availableParallelism } from 'node:os';
import { parentPort, Worker } from 'node:worker_threads';
import { PACKAGE_ROOT } from '../package-root.ts';
import type { Failure, Progress, Result } from './campaign.ts';
import { Coverage } from './coverage.ts';
import { batchSeed } from './random.ts';
import { type LayerOptions, runLayer } from './run.ts';

const MAX_THREADS = 8;
/** Batches of one thread never reach the next one's seeds. */
const SEEDS_APART = 1 << 20;
const REPORT_MILLIS = 200;

type ThreadOptions = Omit<LayerOptions, 'onProgress'>;

/** What a thread tells: all figures so far, and at the end whether something failed. */
interface ThreadReport extends Omit<Progress, 'coverage' | 'millis'> {
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
        thread.postMessage({ ...plain, seed: batchSeed(plain.seed, i * SEEDS_APART) } satisfies ThreadOptions);
      }
    });
    return sum();
  } finally {
    await Promise.all(threads.map((thread) => thread.terminate()));
  }
}

/** Such a thread: runs a layer and reports. KVM's errors cross to the main thread as what makes them known there. */
export function serveAsThread(): void {
  parentPort?.once('message', async (options: ThreadOptions) => {
    let next = 0;
    const tell = ({ cases, machines, coverage }: Progress, rest: Pick<ThreadReport, 'done' | 'failure'>): void =>
      parentPort?.postMessage({ cases, machines, coverage: coverage.entries, ...rest } satisfies ThreadReport);
    const onProgress = (progress: Progress): void => {
      if (Date.now() < next) return;
      next = Date.now() + REPORT_MILLIS;
      tell(progress, { done: false, failure: undefined });
    };
    const result = await runLayer({ ...options, onProgress });
    tell(result, { done: true, failure: result.failure });
  });
}

function addUp(reports: readonly ThreadReport[], millis: number): Result {
  const coverage = new Coverage([]);
  for (const report of reports) coverage.add(report.coverage);
  const total = (figure: 'cases' | 'machines'): number => reports.reduce((sum, report) => sum + report[figure], 0);
  const failure = reports.find((report) => report.failure !== undefined)?.failure;
  return { cases: total('cases'), machines: total('machines'), millis, coverage, failure };
}
