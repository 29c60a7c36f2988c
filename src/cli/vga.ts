/** `run --vga`: what the guest's VGA shows in text mode, live on the terminal, below what comes from its serial port. */
import type { Machine } from '../machine/machine.ts';
import { LiveView } from './live-view.ts';
import { output } from './output.ts';

const PERIOD_MILLIS = 100;

export class Vga {
  readonly #machine: Machine;
  readonly #timer: NodeJS.Timeout;
  readonly #view = new LiveView(process.stdout, output);

  /** @param machine from whose memory the text is read; stdout is a terminal */
  constructor(machine: Machine) {
    this.#machine = machine;
    this.#timer = setInterval(() => this.#view.draw(this.#rows()), PERIOD_MILLIS);
  }

  /** As LiveView. */
  print(chunk: Buffer | string): Promise<void> {
    return this.#view.print(chunk);
  }

  /** The last picture stays on the terminal. */
  close(): void {
    clearInterval(this.#timer);
    this.#view.close(this.#rows());
  }

  /** The rows as far as the terminal has room, the lowest at any rate: that is where guests write. */
  #rows(): readonly string[] {
    const text = this.#machine.screen();
    const { columns, rows } = this.#view.size;
    return text === ''
      ? []
      : text
          .split('\n')
          .slice(-Math.max(1, rows - 1))
          .map((row) => row.slice(0, columns));
  }
}
