/**
 * What a guest has written to its serial port, for whoever reads it as text: collected, and waited for. Keeps the last
 * `limit` characters, so that a guest that prints without end grows nothing; `dropped` says how many went before them.
 */
import { ConfigError } from './errors.ts';

/** How long to wait. */
export interface WaitOptions {
  /** Milliseconds of patience; default none: until the machine ends. */
  readonly timeoutMs?: number;
  /** Gives up when it aborts, with its reason. */
  readonly signal?: AbortSignal;
}

interface Waiter {
  readonly pattern: RegExp;
  readonly found: (match: RegExpExecArray) => void;
  readonly lost: (error: Error) => void;
}

/** One mebi-character: a Linux boot is a tenth of it. */
const DEFAULT_LIMIT = 2 ** 20;
const LAST_LINES = 3;

/**
 * What a guest has written to its serial port, as text: collected, and waited for. Keeps the last of it, so that a
 * guest that prints without end grows nothing.
 */
export class SerialOutput {
  readonly #limit: number;
  readonly #decoder = new TextDecoder();
  readonly #waiters = new Set<Waiter>();
  #text = '';
  #dropped = 0;
  #ended = false;

  /** @param limit characters to keep, at least 1 */
  constructor(limit = DEFAULT_LIMIT) {
    this.#limit = limit;
  }

  /** Everything that is kept, as UTF-8 text; a byte that is none reads U+FFFD. */
  get text(): string {
    return this.#text;
  }

  /** Characters that were printed before `text` begins: 0 unless the guest printed more than is kept. */
  get dropped(): number {
    return this.#dropped;
  }

  /** The same in lines, without their ends ("\n", "\r\n"); the last may be unfinished. */
  get lines(): string[] {
    return this.#text.split(/\r?\n/);
  }

  /**
   * Resolves with the first match of `pattern` in `text`, now or as soon as the guest has printed it.
   * @param pattern a string is looked for as it is
   * @throws ConfigError when the machine ends first, or after `timeoutMs`: it quotes what the guest printed last
   */
  waitFor(pattern: RegExp | string, options: WaitOptions = {}): Promise<RegExpExecArray> {
    const { timeoutMs, signal } = options;
    const wanted =
      typeof pattern === 'string' ? new RegExp(pattern.replaceAll(/[\\^$.*+?()[\]{}|]/g, '\\$&')) : pattern;
    return new Promise((resolve, reject) => {
      let timer: NodeJS.Timeout | undefined;
      const done = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', aborted);
        this.#waiters.delete(waiter);
      };
      const lost = (error: Error): void => {
        done();
        reject(error);
      };
      const aborted = (): void => lost(signal?.reason instanceof Error ? signal.reason : new Error('aborted'));
      const found = (match: RegExpExecArray): void => {
        done();
        resolve(match);
      };
      const waiter: Waiter = { pattern: new RegExp(wanted.source, wanted.flags.replace(/[gy]/g, '')), found, lost };
      if (signal?.aborted === true) return aborted();
      if (this.#look(waiter)) return;
      if (this.#ended) return lost(this.#unseen(wanted, 'the machine has ended'));
      this.#waiters.add(waiter);
      signal?.addEventListener('abort', aborted);
      if (timeoutMs !== undefined) {
        timer = setTimeout(() => lost(this.#unseen(wanted, `${timeoutMs} ms have passed`)), timeoutMs);
      }
    });
  }

  /** For the machine: more output. */
  push(chunk: Uint8Array): void {
    this.#text += this.#decoder.decode(chunk, { stream: true });
    const over = this.#text.length - this.#limit;
    // Cut in large steps: a copy of all for each chunk would be quadratic.
    if (over > this.#limit / 2) {
      this.#dropped += over;
      this.#text = this.#text.slice(over);
    }
    for (const waiter of this.#waiters) this.#look(waiter);
  }

  /** For the machine: there will be no more. */
  end(): void {
    this.#ended = true;
    for (const waiter of this.#waiters) waiter.lost(this.#unseen(waiter.pattern, 'the machine has ended'));
  }

  #look(waiter: Waiter): boolean {
    const match = waiter.pattern.exec(this.#text);
    if (match) waiter.found(match);
    return match !== null;
  }

  #unseen(pattern: RegExp, why: string): ConfigError {
    const last = this.lines.filter((line) => line !== '').slice(-LAST_LINES);
    const printed = last.length === 0 ? 'it printed nothing' : `it printed last: ${last.join(' | ')}`;
    return new ConfigError(`the guest did not print ${pattern}: ${why}; ${printed}`);
  }
}
