/**
 * What a thread that judges (judge-tests.ts, judge-schedules.ts) tells its starter (trial.ts): how far it is, so that the starter
 * knows when it hangs, and the first thing that it finds wrong, which ends it.
 */
import { parentPort } from 'node:worker_threads';

/** `at`: what is run now. `wrong`: a test that failed, or a promise that a schedule breaks. `done`: nothing is wrong. */
export type Said = { readonly at: string } | { readonly wrong: string } | { readonly done: true };

export const say = (said: Said): void => parentPort?.postMessage(said);

export function wrong(what: string): never {
  say({ wrong: what });
  process.exit(); // of this thread
}
