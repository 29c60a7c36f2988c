/**
 * `run --watch`: the machine's live view on the terminal (src/inspect/watch.ts), below what the guest prints. Lines of the
 * guest go above it as soon as they are complete; what it has begun is the view's first line. Written as all output is:
 * never blocking this thread.
 */
import { Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { createLogUpdate } from 'log-update';
import { hex } from '../hex.ts';
import type { MachineSnapshot } from '../inspect/snapshot.ts';
import { watchLines } from '../inspect/watch.ts';
import { ConfigError } from '../machine/errors.ts';
import type { Machine } from '../machine/machine.ts';
import { nameMessage } from '../trace/words.ts';
import { errors } from './output.ts';

const PERIOD_MILLIS = 500;
const PRINT_MILLIS = 50;
const MAX_ROWS = 30;
/** What a guest may print without a newline before it is shown all the same. */
const MAX_PARTIAL = 1000;
const DEFAULT_SIZE = { columns: 80, rows: 24 };

export class Watch {
  readonly #machine: Machine;
  readonly #timer: NodeJS.Timeout;
  readonly #view = createLogUpdate(terminal());
  #before: MachineSnapshot | undefined;
  #lines: string[] = [];
  #messages: string[] = [];
  #partial = '';

  /** @throws ConfigError when stderr is no terminal */
  constructor(machine: Machine) {
    if (!process.stderr.isTTY) throw new ConfigError('--watch needs a terminal on stderr; leave it out');
    this.#machine = machine;
    this.#timer = setInterval(() => void this.#refresh(), PERIOD_MILLIS);
  }

  /**
   * The guest's output, where it goes to the same terminal: its complete lines go above the view. Resolves when they are
   * there and the next may come, which is no more than 20 times a second.
   */
  async print(chunk: Buffer): Promise<void> {
    const text = this.#partial + chunk.toString('latin1');
    const end = text.length > MAX_PARTIAL ? text.length : text.lastIndexOf('\n') + 1;
    this.#partial = text.slice(end);
    if (end > 0) this.#view.persist(text.slice(0, end).replace(/\r?\n$/, ''));
    this.#draw();
    await delay(PRINT_MILLIS);
  }

  /** The last view stays on the terminal. */
  close(): void {
    clearInterval(this.#timer);
    this.#view.done();
  }

  async #refresh(): Promise<void> {
    const now = await this.#machine.inspect();
    const { columns, rows } = size();
    this.#note(now);
    this.#lines = watchLines(now, this.#before, this.#messages, { columns, rows: Math.min(rows - 2, MAX_ROWS) });
    this.#before = now;
    this.#draw();
  }

  /** What each CPU sent last, as far as it is new. */
  #note(now: MachineSnapshot): void {
    const before = new Map(this.#before?.vcpus.map((cpu) => [cpu.apicId, cpu.sent]));
    for (const { apicId, sent } of now.vcpus) {
      if (!sent || JSON.stringify(before.get(apicId)) === JSON.stringify(sent)) continue;
      const to = sent.targets.map((id) => hex(id)).join(', ') || 'nobody';
      this.#messages.push(`${hex(apicId)} sent ${nameMessage(sent)}, by ${sent.path} to ${to}`);
    }
    this.#messages = this.#messages.slice(-MAX_ROWS);
  }

  #draw(): void {
    this.#view([...(this.#partial === '' ? [] : [this.#partial]), ...this.#lines].join('\n'));
  }
}

const size = (): { columns: number; rows: number } => ({
  columns: process.stderr.columns || DEFAULT_SIZE.columns,
  rows: process.stderr.rows || DEFAULT_SIZE.rows,
});

/** The terminal as log-update wants it: a stream with a size, whose writes do not block. */
function terminal(): NodeJS.WriteStream {
  const stream = new Writable({
    write: (chunk: Buffer, _encoding, done) => void errors.write(chunk).then(() => done()),
  });
  return Object.assign(
    Object.defineProperties(stream, {
      columns: { get: () => size().columns },
      rows: { get: () => size().rows },
      isTTY: { value: true },
    }),
  ) as unknown as NodeJS.WriteStream;
}
