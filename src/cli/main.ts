/**
 * The `apiary` command but for what runs machines (machine-program.ts). Which of the two a command line is for, and that a
 * worker thread starts before anything else, is src/start/main.ts's.
 */
import { isMainThread } from 'node:worker_threads';

// A thread of `conform` is this program too, which spares the package a second copy of it (conform/cores.ts).
if (isMainThread) void import('./program.ts');
else void import('../conform/core-worker.ts');
