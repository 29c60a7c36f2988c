/**
 * `run --watch`: the machine's live view on the terminal (src/inspect/watch.ts), below what the guest prints.
 */
import { hex } from '../hex.ts';
import type { MachineSnapshot } from '../inspect/snapshot.ts';
import { watchLines } from '../inspect/watch.ts';
import { ConfigError } from '../machine/errors.ts';
import type { Machine } from '../machine/machine.ts';
import { nameMessage } from '../trace/words.ts';
import { LiveView } from './live-view.ts';
import { errors } from './output.ts';

const PERIOD_MILLIS = 500;
const MAX_ROWS = 30;

export class Watch {
  readonly #machine: Machine;
  readonly #timer: NodeJS.Timeout;
  readonly #view = new LiveView(process.stderr, errors);
  #before: MachineSnapshot | undefined;
  #messages: string[] = [];

  /** @throws ConfigError when stderr is no terminal */
  constructor(machine: Machine) {
    if (!process.stderr.isTTY) throw new ConfigError('--watch needs a terminal on stderr; leave it out');
    this.#machine = machine;
    this.#timer = setInterval(() => void this.#refresh(), PERIOD_MILLIS);
  }

  /** The guest's output, where it goes to the same terminal. As LiveView. */
  print(chunk: Buffer | string): Promise<void> {
    return this.#view.print(chunk);
  }

  /** The last view stays on the terminal. */
  close(): void {
    clearInterval(this.#timer);
    this.#view.close();
  }

  async #refresh(): Promise<void> {
    const now = await this.#machine.inspect();
    const { columns, rows } = this.#view.size;
    this.#note(now);
    this.#view.draw(watchLines(now, this.#before, this.#messages, { columns, rows: Math.min(rows - 2, MAX_ROWS) }));
    this.#before = now;
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
}
