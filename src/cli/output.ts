/**
 * Standard output and error, written to without ever blocking this thread, which has signals and a time limit to look after.
 * Node blocks in write() on a terminal, for as long as somebody has stopped it with Ctrl-S; so a terminal is opened once more,
 * for writes that say EAGAIN. A pipe that nobody reads fills up, and then a write waits for its reader without blocking.
 */
import { constants, openSync, writeSync } from 'node:fs';
import { isatty } from 'node:tty';

/** How often a terminal that takes nothing is asked again. */
const RETRY_MILLIS = 10;

type Failed = (error: NodeJS.ErrnoException) => void;

export class Output {
  readonly #fd: 1 | 2;
  /** The terminal's second descriptor, or -1. */
  readonly #terminal: number;
  #written: Promise<void> = Promise.resolve();
  #failed: Failed | undefined;
  #listening = false;

  constructor(fd: 1 | 2) {
    this.#fd = fd;
    this.#terminal = isatty(fd) ? openAgain(fd) : -1;
  }

  /** In order. @returns what resolves once the system has taken it, or refused it */
  write(bytes: string | Uint8Array): Promise<void> {
    const buffer = typeof bytes === 'string' ? Buffer.from(bytes) : bytes;
    this.#written = this.#written.then(() => (this.#terminal < 0 ? this.#toStream(buffer) : this.#toTerminal(buffer)));
    return this.#written;
  }

  /** Told of the first failure; what is written after it is lost. From here to the end of the process. */
  onFailure(failed: Failed): void {
    this.#failed = failed;
    this.#listen();
  }

  /** An error that nobody listens to would end the process with a stack trace. */
  #listen(): void {
    if (this.#listening || this.#terminal >= 0) return;
    this.#listening = true;
    this.#stream().on('error', (error: NodeJS.ErrnoException) => this.#fail(error));
  }

  #fail(error: NodeJS.ErrnoException): void {
    const failed = this.#failed;
    this.#failed = undefined;
    failed?.(error);
  }

  #stream(): NodeJS.WriteStream {
    return this.#fd === 1 ? process.stdout : process.stderr;
  }

  #toStream(buffer: Uint8Array): Promise<void> {
    this.#listen();
    return new Promise((resolve) => {
      this.#stream().write(buffer, () => resolve());
    });
  }

  async #toTerminal(buffer: Uint8Array): Promise<void> {
    for (let done = 0; done < buffer.length; ) {
      try {
        done += writeSync(this.#terminal, buffer, done);
      } catch (error) {
        const failure = error as NodeJS.ErrnoException;
        if (failure.code !== 'EAGAIN') {
          this.#fail(failure);
          return;
        }
        await new Promise((resolve) => setTimeout(resolve, RETRY_MILLIS));
      }
    }
  }
}

/** @returns -1 where it is not to be had: somebody else's terminal, or no /proc */
function openAgain(fd: number): number {
  try {
    return openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch {
    return -1;
  }
}

export const output = new Output(1);
export const errors = new Output(2);

let patience = Number.POSITIVE_INFINITY;

/** The process ends for a reason that does not wait for a reader: from now on output has `millis` at most. */
export function hurry(millis: number): void {
  patience = millis;
}

/** Resolves when everything has been taken, or nobody has taken it for too long (`hurry`). */
export async function lastWords(): Promise<void> {
  const taken = Promise.all([output.write(''), errors.write('')]);
  if (patience === Number.POSITIVE_INFINITY) await taken;
  else await Promise.race([taken, new Promise((resolve) => setTimeout(resolve, patience))]);
}
