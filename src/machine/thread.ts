/**
 * Threads for workers. One takes 25 ms to boot and 15 ms to load its program (bundled, as the `apiary` command has it; twice
 * that as modules), so a command that knows that it will need one starts it before it loads anything else. Main thread only.
 */
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import type { WorkerStart } from './shared/messages.ts';

export interface Thread {
  readonly thread: Worker;
  /** Main's end of the worker's control port. */
  readonly port: MessagePort;
}

/** Beside this file: the module, or the bundle if this is in one. */
const PROGRAM = new URL(import.meta.url.endsWith('.cjs') ? './worker.cjs' : './worker.js', import.meta.url);

/** A thread that loads its program for longer than this has other troubles. */
const LOAD_MILLIS = 2000;

/** Of the threads that have not ended: whether their program is loaded. */
const loading = new Set<Int32Array<SharedArrayBuffer>>();

// koffi aborts the process if its thread is ended while it loads, and a command that finds a mistake at once ends just then.
process.once('exit', () => {
  for (const loaded of loading) Atomics.wait(loaded, 0, 0, LOAD_MILLIS);
});

/** Worker 0 of the next machine, if it was started ahead. */
let spare: Thread | undefined;

/** The thread of worker `worker`: the spare one if there is one. It waits for its machine. */
export function takeThread(worker: number): Thread {
  if (worker !== 0 || spare === undefined) return startThread(worker);
  const taken = spare;
  spare = undefined;
  taken.thread.ref();
  return taken;
}

/** Starts worker 0 of the machine to come. The process may end without it ever being used. */
export function startSpareThread(): void {
  const started = startThread(0);
  const forget = (): void => {
    if (spare === started) spare = undefined; // the pool then starts one itself, and sees what is wrong with it
  };
  started.thread.unref();
  started.thread.once('error', forget);
  started.thread.once('exit', forget);
  spare = started;
}

function startThread(worker: number): Thread {
  const { port1, port2 } = new MessageChannel();
  const loaded = new Int32Array(new SharedArrayBuffer(4));
  const start: WorkerStart = { worker, port: port2, loaded };
  const options = { workerData: start, transferList: [port2], name: `apiary ${worker}` };
  // execArgv: what the process was started with (--input-type, --test) is not meant for this program.
  const thread = new Worker(PROGRAM, { ...options, execArgv: [] });
  loading.add(loaded);
  thread.once('exit', () => loading.delete(loaded));
  return { thread, port: port1 };
}
