/** One thread of cores.ts: runs a layer and reports. KVM's errors cross to the main thread as what makes them known there. */
import { parentPort } from 'node:worker_threads';
import type { Progress } from './campaign.ts';
import type { ThreadOptions, ThreadReport } from './cores.ts';
import { runLayer } from './run.ts';

const REPORT_MILLIS = 200;

parentPort?.once('message', async (options: ThreadOptions) => {
  let next = 0;
  const tell = ({ cases, machines, coverage }: Progress, rest: Pick<ThreadReport, 'done' | 'failure'>): void =>
    parentPort?.postMessage({ cases, machines, coverage: coverage.entries, ...rest } satisfies ThreadReport);
  const result = await runLayer({
    ...options,
    onProgress: (progress) => {
      if (Date.now() < next) return;
      next = Date.now() + REPORT_MILLIS;
      tell(progress, { done: false, failure: undefined });
    },
  });
  tell(result, { done: true, failure: result.failure });
});
