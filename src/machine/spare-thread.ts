/**
 * A worker thread that has not been asked for yet: 25 ms until it runs its program, which the command's start spends on other
 * things. Those that wait are the process's, since each of the package's bundles brings this file.
 */
import { Worker } from 'node:worker_threads';
import type { ThreadStart } from './shared/messages.ts';

export interface RawThread {
  readonly worker: Worker;
  /** One word, 1 once its program is loaded. */
  readonly loaded: Int32Array<SharedArrayBuffer>;
}

/** Beside this file: the module, or the bundle if this is in one. */
const PROGRAM = new URL(import.meta.url.endsWith('.cjs') ? './worker.cjs' : './worker.js', import.meta.url);
/** A thread that loads its program for longer than this has other troubles. */
const LOAD_MILLIS = 2000;
const WAITING = Symbol.for('apiary.spare-threads');
const shared = globalThis as { [WAITING]?: RawThread[] };
shared[WAITING] ??= [];
const waiting = shared[WAITING];

/** Of the threads that have not ended: whether their program is loaded. */
const loading = new Set<Int32Array<SharedArrayBuffer>>();

// koffi aborts the process if its thread is ended while it loads, and a command that finds a mistake at once ends just then.
process.once('exit', () => {
  for (const loaded of loading) Atomics.wait(loaded, 0, 0, LOAD_MILLIS);
});

/** A run loop allocates next to nothing; V8's default would let each kept thread grow by 10 MB before it looks. */
const SMALL_HEAP = { maxYoungGenerationSizeMb: 4 };

function newThread(): RawThread {
  const loaded = new Int32Array(new SharedArrayBuffer(4));
  const workerData: ThreadStart = { loaded };
  // No execArgv: what was meant for the main program (--input-type, --import, --eval) is nothing for ours.
  const worker = new Worker(PROGRAM, { workerData, execArgv: [], resourceLimits: SMALL_HEAP, name: 'apiary' });
  loading.add(loaded);
  worker.once('exit', () => loading.delete(loaded));
  return { worker, loaded };
}

/** Starts one for the next `takeThread`. */
export function startSpare(): void {
  const thread = newThread();
  thread.worker.unref();
  waiting.push(thread);
}

/** The spare one, or a new one. */
export function takeThread(): RawThread {
  return waiting.shift() ?? newThread();
}
