// For bindings-kick.test.ts: only a worker loads the addon, and ends; then the kick signal arrives.
import { Worker } from 'node:worker_threads';

const code = `import('apiary/kvm').then(({ native }) => native.armTimer(native.nowNanos() + 1e9))`;
const worker = new Worker(code, { eval: true });
worker.once('exit', () => {
  process.kill(process.pid, 'SIGSTKFLT');
  setTimeout(() => process.exit(3), 20);
});
