/**
 * Runs a bundle in a thread until it says what is wrong, or that nothing is. A thread that is silent for too long hangs: a
 * mutant may loop without end, which nobody else can stop.
 */
import { Worker } from 'node:worker_threads';
import type { Said } from './thread.ts';

/** A mutant that fills memory ends by this. */
const HEAP_MIB = 1024;

export interface Verdict {
  readonly how: 'nothing wrong' | 'wrong' | 'hangs' | 'crashed';
  readonly what: string;
  /** The longest time between two words. */
  readonly silenceMillis: number;
}

/** @param told what the script finds as `workerData` */
export function tryOut(code: string, told: unknown, limitMillis: number): Promise<Verdict> {
  const worker = new Worker(code, {
    eval: true,
    workerData: told,
    resourceLimits: { maxOldGenerationSizeMb: HEAP_MIB },
    stdout: true,
    stderr: true,
  });
  return new Promise((resolve) => {
    let at = 'its start';
    let heard = performance.now();
    let silenceMillis = 0;
    let timer: NodeJS.Timeout | undefined;
    const end = (how: Verdict['how'], what: string): void => {
      clearTimeout(timer);
      worker.removeAllListeners();
      worker.on('error', () => {}); // what it still says is of no interest
      void worker.terminate();
      resolve({ how, what, silenceMillis });
    };
    const listen = (): void => {
      clearTimeout(timer);
      timer = setTimeout(() => end('hangs', at), limitMillis);
    };
    worker.on('message', (said: Said) => {
      const now = performance.now();
      silenceMillis = Math.max(silenceMillis, now - heard);
      heard = now;
      listen();
      if ('at' in said) at = said.at;
      else if ('wrong' in said) end('wrong', said.wrong);
      else end('nothing wrong', '');
    });
    worker.once('error', (error) => end('crashed', `${at}: ${error.message}`));
    worker.once('exit', (status) => end('crashed', `${at}: its thread ended with status ${status}`));
    listen();
  });
}
