/**
 * A worker thread that has not been asked for yet: 25 ms until it runs its program, which the command's start spends on other
 * things. The process may end while one loads, since koffi, which would abort then, is loaded only to sandbox a thread. Those
 * that wait are the process's, since each of the package's bundles brings this file.
 */
import { Worker } from 'node:worker_threads';
import { HostError } from './errors.ts';
import type { ThreadStart } from './shared/messages.ts';

export interface RawThread {
  readonly worker: Worker;
  /** One word, 1 once its program is loaded. */
  readonly loaded: Int32Array<SharedArrayBuffer>;
  /** Resolves when it has ended, with why. */
  readonly ended: Promise<string>;
}

interface Spare extends RawThread {
  isAlive: boolean;
}

/** Beside this file: the module, or the bundle if this is in one. */
const PROGRAM = new URL(import.meta.url.endsWith('.cjs') ? './worker.cjs' : './worker.js', import.meta.url);
const THREADS = Symbol.for('apiary.threads');
const shared = globalThis as { [THREADS]?: { readonly waiting: Spare[] } };
shared[THREADS] ??= { waiting: [] };
const threads = shared[THREADS];

/** A run loop allocates next to nothing; V8's default would let each kept thread grow by 10 MB before it looks. */
const SMALL_HEAP = { maxYoungGenerationSizeMb: 4 };

function newThread(): Spare {
  const loaded = new Int32Array(new SharedArrayBuffer(4));
  const workerData: ThreadStart = { loaded };
  // No execArgv: what was meant for the main program (--input-type, --import, --eval) is nothing for ours.
  const worker = new Worker(PROGRAM, { workerData, execArgv: [], resourceLimits: SMALL_HEAP, name: 'apiary' });
  let failure: string | undefined;
  worker.once('error', (error: Error) => {
    failure = error.message;
  });
  const ended = new Promise<string>((resolve) => {
    worker.once('exit', (code) => {
      thread.isAlive = false;
      resolve(failure ?? `ended by itself with code ${code}`);
    });
  });
  const thread = { worker, loaded, ended, isAlive: true };
  return thread;
}

/** Starts one for the next `takeThread`. Where that cannot be, nothing: `takeThread` says why. */
export function startSpare(): void {
  try {
    const thread = newThread();
    thread.worker.unref();
    threads.waiting.push(thread);
  } catch {
    // the host has no thread to spare
  }
}

/** The spare one, or a new one. @throws HostError when the host has no more threads */
export function takeThread(): RawThread {
  for (let spare = threads.waiting.shift(); spare; spare = threads.waiting.shift()) {
    if (spare.isAlive) return spare;
  }
  try {
    return newThread();
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new HostError(`cannot start a worker thread: ${why}; the limit of threads may be low (ulimit -u)`);
  }
}
