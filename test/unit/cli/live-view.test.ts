/** The lines that `run --watch` and `--vga` redraw: what reaches the terminal, and how a terminal that takes nothing is met. */
import { stripVTControlCharacters } from 'node:util';
import { describe, expect, test } from 'vitest';
import { LiveView } from '../../../src/cli/live-view.ts';
import { DRAWING } from './support.ts';

/** A terminal that takes what it is given when it is told to. */
class Terminal {
  readonly columns = 80;
  readonly rows = 24;
  readonly written: string[] = [];
  isStopped = false;
  #waiting: (() => void)[] = [];

  write(bytes: string | Uint8Array): Promise<void> {
    const text = Buffer.from(bytes).toString();
    if (text !== '') this.written.push(text);
    return this.isStopped ? new Promise((resolve) => this.#waiting.push(resolve)) : Promise.resolve();
  }

  async goOn(): Promise<void> {
    this.isStopped = false;
    for (const each of this.#waiting.splice(0)) each();
    await settled();
  }

  get text(): string {
    return stripVTControlCharacters(this.written.join(''));
  }
}

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function made(): { terminal: Terminal; view: LiveView } {
  const terminal = new Terminal();
  return { terminal, view: new LiveView(terminal, terminal) };
}

describe('a view', () => {
  test('that is the same is not drawn again', async () => {
    const { terminal, view } = made();
    for (let time = 0; time < 3; time++) {
      view.draw(['one', 'two']);
      await settled();
    }
    expect(terminal.text).toBe('one\ntwo\n');
  });

  test('is not drawn while the terminal takes nothing, and then once, as it is by then', async () => {
    const { terminal, view } = made();
    terminal.isStopped = true;
    for (let time = 0; time < 100; time++) view.draw([`count ${time}`]);
    await terminal.goOn();
    expect(terminal.text).toBe('count 0\n');
    view.draw(['count 100']);
    await settled();
    expect(terminal.written).toHaveLength(2);
    expect(terminal.text).toContain('count 100');
  });

  test('holds the guest back while the terminal does not take its output', async () => {
    const { terminal, view } = made();
    terminal.isStopped = true;
    let printed = false;
    const printing = view.print(Buffer.from('line\n')).then(() => {
      printed = true;
    });
    await new Promise((resolve) => setTimeout(resolve, 300)); // longer than it waits for time's sake
    expect(printed).toBe(false);
    await terminal.goOn();
    await printing;
  });

  test('stands below the complete lines of the guest, and the line that it has begun is the first', async () => {
    const { terminal, view } = made();
    view.draw(['view']);
    await view.print(Buffer.from('first\nsec'));
    await view.print(Buffer.from('ond\nthi'));
    expect(terminal.text).toBe('view\nfirst\nsec\nview\nsecond\nthi\nview\n');
  });

  test('loses nothing of a guest that prints more at once than the terminal has room for', async () => {
    const { terminal, view } = made();
    const lines = Array.from({ length: 100 }, (_, index) => `line ${index}`);
    const long = 'x'.repeat(5000);
    view.draw(['view']);
    await view.print(Buffer.from(`${lines.join('\n')}\n${long}`));
    expect(terminal.text).toBe(`view\n${lines.join('\n')}\n${long}\nview\n`);
  });

  test("leaves nothing of the guest's that would steer the terminal, and hides no cursor", async () => {
    const { terminal, view } = made();
    await view.print(Buffer.from('a\x1b]0;title\x07b\x1b[2Jc\x9b31md\te\rf\x0cg\r\nh\x1b'));
    view.close();
    await settled();
    const text = terminal.written.join('');
    const own = text.replaceAll(DRAWING, '');
    expect(own).not.toMatch(/[^\P{Cc}\n]/u);
    expect(own).toMatch(/^a.*c.*d {8}e\\rf\\x0cg\n/s);
    expect(text).not.toContain('\x1b[?25');
  });
});
