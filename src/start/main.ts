#!/usr/bin/env node
/**
 * What the package's `apiary` starts with. A command that runs a machine needs a worker thread, which takes longest, so that
 * comes first; then the program that has the command, with its code cache. Loads nothing else.
 */
import { isMainThread } from 'node:worker_threads';
import { startSpare } from '../machine/spare-thread.ts';
import { runCached } from './code-cache.ts';

const RUN_MACHINES: readonly (string | undefined)[] = ['run', 'demo'];
const [command] = process.argv.slice(2);
const runsMachine = isMainThread && RUN_MACHINES.includes(command);

if (runsMachine && !process.argv.includes('--help')) startSpare();
runCached({
  name: runsMachine ? 'machine.code.js' : 'main.code.js',
  folder: __dirname,
  require,
  // What the others compile is not worth a file.
  keeper: (keep) => {
    if (command === 'run') process.once('exit', keep);
  },
});
