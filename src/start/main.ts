#!/usr/bin/env node
/**
 * What the package's `apiary` starts with. A machine that needs a worker thread at once waits longest for that, so it comes
 * first; then the program that has the command, with its code cache. Loads nothing else.
 */
import { isMainThread } from 'node:worker_threads';
import { startSpare } from '../machine/spare-thread.ts';
import { runCached } from './code-cache.ts';
import { commandArguments, needsThread, runsMachine } from './which.ts';

const args = commandArguments();
const isForMachine = isMainThread && runsMachine(args);

if (isForMachine && needsThread(args)) startSpare();
runCached({
  name: isForMachine ? 'machine.code.cjs' : 'main.code.cjs',
  folder: __dirname,
  require,
  // What the others compile is not worth a file.
  mayKeep: isForMachine && args[0] === 'run',
});
