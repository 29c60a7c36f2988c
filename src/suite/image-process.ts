/**
 * Runs one image in a process of its own: `apiary run`, whose exit status and output are the result. A monitor that hangs
 * or crashes then costs one test, not the suite. Output is kept to a bounded length, its beginning and its end.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import type { Ending } from './results.ts';

const MAX_OUTPUT = 4 * 2 ** 20;
/** How long the monitor may take beyond the guest's time to clean up before it is killed. */
const GRACE_MS = 20_000;

/** When this process ends, nobody is left to hear what they find. */
const running = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of running) child.kill();
});

/**
 * @param command the program and its first arguments, for example node and the path of `apiary`
 * @param args the arguments of `run`
 * @param abort kills the process
 */
export function runImage(
  command: readonly string[],
  args: readonly string[],
  timeoutSeconds: number,
  abort: AbortSignal,
): Promise<Ending> {
  const [program = process.execPath, ...first] = command;
  const started = performance.now();
  return new Promise((resolve, reject) => {
    const child = spawn(program, [...first, 'run', ...args, '--timeout', `${timeoutSeconds}s`], {
      stdio: ['ignore', 'pipe', 'pipe'],
      signal: abort,
      killSignal: 'SIGTERM',
    });
    const output = collect(child.stdout);
    const errors = collect(child.stderr);
    running.add(child);
    const killer = setTimeout(() => child.kill('SIGKILL'), timeoutSeconds * 1000 + GRACE_MS);
    child.once('error', (error) => {
      running.delete(child);
      clearTimeout(killer);
      reject(error);
    });
    child.once('close', (status, signal) => {
      running.delete(child);
      clearTimeout(killer);
      const seconds = (performance.now() - started) / 1000;
      resolve({ status, signal, output: output(), errors: errors(), seconds, timeoutSeconds });
    });
  });
}

/** @returns what has come so far; of more than MAX_OUTPUT characters the middle is left out */
function collect(stream: Readable): () => string {
  let head = '';
  let tail = '';
  stream.setEncoding('latin1');
  stream.on('data', (text: string) => {
    const room = MAX_OUTPUT / 2 - head.length;
    head += text.slice(0, room);
    tail += text.slice(Math.max(room, 0));
    if (tail.length > MAX_OUTPUT) tail = tail.slice(-MAX_OUTPUT / 2);
  });
  return () => (tail.length > MAX_OUTPUT / 2 ? `${head}\n[...]\n${tail.slice(-MAX_OUTPUT / 2)}` : head + tail);
}
