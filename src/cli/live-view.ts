/**
 * Lines at the bottom of a terminal that are drawn again and again, below what the guest prints on its serial port: complete
 * lines of that go above as soon as they are there, what it has begun is the view's first line. Written as all output is,
 * never blocking this thread: a terminal that takes nothing (Ctrl-S) is drawn on again once it does, and until then holds the
 * guest back. Nothing has to be put back at the end: the cursor stays as it is.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { stripVTControlCharacters } from 'node:util';
import { createLogUpdate } from 'log-update';
import { printable } from '../printable.ts';
import type { Output } from './output.ts';

const PRINT_MILLIS = 100;
/** What a guest may print without a newline before it is shown all the same. */
const MAX_PARTIAL = 1000;
const DEFAULT_SIZE = { columns: 80, rows: 24 };

/** Of a terminal, in characters; 0 where it does not say. */
export interface ScreenSize {
  readonly columns: number;
  readonly rows: number;
}

export class LiveView {
  readonly #screen: ScreenSize;
  readonly #output: Pick<Output, 'write'>;
  readonly #view: ReturnType<typeof createLogUpdate>;
  /** Writes that the terminal has not taken yet. */
  #untaken = 0;
  #lines: readonly string[] = [];
  #partial = '';

  /** @param screen the terminal that `output` writes to */
  constructor(screen: ScreenSize, output: Pick<Output, 'write'>) {
    this.#screen = screen;
    this.#output = output;
    const terminal = { isTTY: true, write: (text: string) => void this.#write(text) };
    Object.defineProperties(terminal, {
      columns: { get: () => this.size.columns },
      rows: { get: () => this.size.rows },
    });
    // It would hide the cursor by a write to stderr, which blocks while the terminal takes nothing.
    this.#view = createLogUpdate(terminal as unknown as NodeJS.WriteStream, { showCursor: true });
  }

  get size(): ScreenSize {
    return {
      columns: this.#screen.columns || DEFAULT_SIZE.columns,
      rows: this.#screen.rows || DEFAULT_SIZE.rows,
    };
  }

  /**
   * The guest's output: its complete lines go above the view, without what would steer the terminal. Resolves when they are
   * there and the next may come, which is no more than 10 times a second.
   */
  async print(chunk: Buffer | string): Promise<void> {
    const text = this.#partial + (typeof chunk === 'string' ? chunk : chunk.toString('latin1'));
    const end = text.length > MAX_PARTIAL ? text.length : text.lastIndexOf('\n') + 1;
    this.#partial = text.slice(end);
    if (end > 0) {
      this.#view.clear(); // not `persist`, which drops what is more than the terminal has rows
      void this.#write(`${shown(text.slice(0, end).replace(/\r?\n$/, ''))}\n`);
    }
    this.#redraw();
    await Promise.all([this.#write(''), delay(PRINT_MILLIS)]);
  }

  /** Shows these lines, or leaves it to a later call while the terminal has not taken the last ones. */
  draw(lines: readonly string[]): void {
    this.#lines = lines;
    if (this.#untaken === 0) this.#redraw();
  }

  /** These lines stay on the terminal. */
  close(lines = this.#lines): void {
    this.#lines = lines;
    this.#redraw();
    this.#view.done();
  }

  async #write(text: string): Promise<void> {
    this.#untaken++;
    await this.#output.write(text);
    this.#untaken--;
  }

  #redraw(): void {
    const partial = this.#partial === '' ? [] : [shown(this.#partial)];
    if (partial.length > 0 || this.#lines.length > 0) this.#view([...partial, ...this.#lines].join('\n'));
  }
}

/** Lines of a guest as they may stand beside a view: no colours, no other escape sequences, nothing that moves the cursor. */
function shown(text: string): string {
  return stripVTControlCharacters(text)
    .split('\n')
    .map((line) => printable(line.replace(/\r+$/, '').replaceAll('\t', '        ')))
    .join('\n');
}
