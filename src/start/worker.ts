/** What a worker thread starts with: its program (src/machine/worker.ts, bundled as worker.code.cjs) with its code cache. */
import { runCached } from './code-cache.ts';

// A thread ends in the middle of anything: its program says when it has been through a machine.
runCached({ name: 'worker.code.cjs', folder: __dirname, require, mayKeep: true });
