#!/usr/bin/env node
/**
 * The `apiary` command. Start-up time is what a user who changes a rule and runs again waits for, so what takes longest
 * comes first: a worker thread boots while this one loads the rest.
 */
import { isMainThread } from 'node:worker_threads';
import { Thread } from '../machine/thread.ts';

const RUNS_A_MACHINE: readonly (string | undefined)[] = ['run', 'demo'];

// A thread of `conform` is this program too, which spares the package a second copy of it (conform/cores.ts).
if (!isMainThread) {
  void import('../conform/core-worker.ts');
} else {
  if (RUNS_A_MACHINE.includes(process.argv[2]) && !process.argv.includes('--help')) Thread.startSpare();
  void import('./program.ts');
}
