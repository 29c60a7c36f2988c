/** What every kind of host has: a job, a time limit, a console, and one program that emulates it and ends with this process. */
import { type ChildProcess, spawn } from 'node:child_process';
import type { Duplex } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import { type Job, JobStatus } from './job.ts';
import type { HostKernel } from './kernel.ts';
import { say } from './store.ts';
import type { Tool } from './tools.ts';
import { LabTrouble } from './trouble.ts';

export interface HostOptions {
  readonly kernel: HostKernel;
  readonly job: Job;
  readonly timeoutSeconds: number;
  /** Where the command's output goes. */
  readonly output: NodeJS.WritableStream;
  readonly errors: NodeJS.WritableStream;
  /** Shows the host's console as well. */
  readonly verbose: boolean;
}

/** How much of the console is told when a host dies. */
const LAST_WORDS = 20;
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Starts an emulator. setpriv: it goes when this process is killed. */
export function startEmulator(
  { command, environment }: Tool,
  parameters: readonly string[],
  descriptors: readonly (number | 'pipe')[],
): ChildProcess {
  return spawn('setpriv', ['--pdeathsig', 'KILL', ...command, ...parameters], {
    stdio: ['ignore', 'pipe', 'pipe', ...descriptors],
    env: { ...process.env, ...environment },
  });
}

/** A descriptor of the emulator that is a pipe, for both directions. */
export function portOf(child: ChildProcess, descriptor: number): Duplex {
  const port = child.stdio[descriptor] as Duplex;
  // An emulator that is killed before it has read everything resets it. That it ended is told by its end.
  port.on('error', () => {});
  return port;
}

/**
 * Waits for the emulator's end, which the time limit or a signal to this process brings about, and resolves to the job's
 * status, or to one of `JobStatus`. `said` is what came of the status: a line with the number.
 */
export async function jobStatus(
  child: ChildProcess,
  {
    timeoutSeconds,
    said,
    console,
  }: { timeoutSeconds: number; said: () => string; console: { last(count: number): string } },
): Promise<number> {
  let late = false;
  const stop = (): void => {
    child.kill('SIGKILL');
  };
  const limit = setTimeout(() => {
    late = true;
    stop();
  }, timeoutSeconds * 1000);
  for (const signal of SIGNALS) process.once(signal, stop);
  try {
    await new Promise<void>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', () => resolve());
    });
  } finally {
    clearTimeout(limit);
    for (const signal of SIGNALS) process.off(signal, stop);
  }
  if (late) {
    say(`the time limit of ${timeoutSeconds} s is over; --timeout S gives it more`);
    return JobStatus.TimeIsOver;
  }
  if (isStatus(said())) return Number(said());
  say(`the host ended before the command did. Its last words:\n${console.last(LAST_WORDS)}`);
  return JobStatus.HostDied;
}

/** Work that leaves something half made if a signal ends it: the signal waits. @throws LabTrouble if one came meanwhile */
export async function uninterrupted<T>(work: () => T): Promise<T> {
  let stopped: string | undefined;
  const stop = (signal: string): void => {
    stopped = signal;
  };
  for (const signal of SIGNALS) process.on(signal, stop);
  try {
    const result = work();
    // A signal is told where the loop polls, which is once between two of these.
    for (let turn = 0; turn < 2; turn += 1) await setImmediate();
    if (stopped !== undefined) throw new LabTrouble(`stopped by ${stopped}`);
    return result;
  } finally {
    for (const signal of SIGNALS) process.off(signal, stop);
  }
}

/** Whether it is a whole line with a number. */
export function isStatus(text: string): boolean {
  return /^\d+\n/.test(text);
}

/** A console's text: passed on where somebody wants it, and kept for its last lines. */
export class Lines {
  readonly #show: NodeJS.WritableStream | undefined;
  #text = '';

  constructor(show: NodeJS.WritableStream | undefined) {
    this.#show = show;
  }

  add(chunk: Buffer): void {
    this.#show?.write(chunk);
    this.#text = (this.#text + chunk.toString('latin1')).slice(-16_384);
  }

  last(count: number): string {
    return this.#text.replaceAll('\r', '').trimEnd().split('\n').slice(-count).join('\n');
  }
}
