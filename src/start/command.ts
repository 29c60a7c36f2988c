/** The program of all commands but those that run machines (main.ts), as the package has it: main.code.cjs. */
import { isMainThread } from 'node:worker_threads';

// A thread of `conform` is this program too, which spares the package a second copy of it (conform/cores.ts).
if (isMainThread) void import('../cli/program.ts');
else void import('../conform/cores.ts').then(({ serveAsThread }) => serveAsThread());
