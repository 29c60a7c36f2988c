/** The guest's output as text: collected within a bound, waited for, and quoted when it did not come. */
import { describe, expect, it } from 'vitest';
import { SerialOutput } from '../../../src/machine/output.ts';

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

describe('collected output', () => {
  it('is text, whatever the pieces in which it came', () => {
    const output = new SerialOutput();
    const all = bytes('grüße\r\nready\n');
    for (const byte of all) output.push(Uint8Array.of(byte));
    expect(output.text).toBe('grüße\r\nready\n');
    expect(output.lines).toEqual(['grüße', 'ready', '']);
  });

  it('keeps the last of it, and says how much is gone', () => {
    const output = new SerialOutput(100);
    for (let line = 0; line < 1000; line++) output.push(bytes(`line ${String(line).padStart(4, '0')}\n`));
    expect(output.text.length).toBeLessThanOrEqual(150);
    expect(output.text.length + output.dropped).toBe(10_000);
    expect(output.text.endsWith('line 0999\n')).toBe(true);
  });
});

describe('waitFor', () => {
  it('finds what is there already, and what comes later in two pieces', async () => {
    const output = new SerialOutput();
    output.push(bytes('boot 7\n'));
    expect((await output.waitFor(/boot (\d)/))[1]).toBe('7');
    const later = output.waitFor('a+b');
    output.push(bytes('a+'));
    output.push(bytes('b'));
    expect((await later)[0]).toBe('a+b');
  });

  it('finds the same with a global pattern twice', async () => {
    const output = new SerialOutput();
    output.push(bytes('x'));
    const pattern = /x/g;
    await output.waitFor(pattern);
    await expect(output.waitFor(pattern)).resolves.toBeDefined();
  });

  it('rejects at the end of the machine, with the last lines', async () => {
    const output = new SerialOutput();
    output.push(bytes('one\ntwo\n'));
    const waiting = output.waitFor(/three/);
    output.end();
    const message = 'the guest did not print /three/: the machine has ended; it printed last: one | two';
    await expect(waiting).rejects.toThrow(message);
    await expect(output.waitFor(/three/)).rejects.toThrow(message);
  });

  it('rejects after its time, and when it is aborted before or while it waits', async () => {
    const output = new SerialOutput();
    await expect(output.waitFor(/x/, { timeoutMs: 1 })).rejects.toThrow('1 ms have passed; it printed nothing');
    await expect(output.waitFor(/x/, { signal: AbortSignal.abort(new Error('no more')) })).rejects.toThrow('no more');
    const control = new AbortController();
    const waiting = output.waitFor(/x/, { signal: control.signal });
    control.abort(new Error('later'));
    await expect(waiting).rejects.toThrow('later');
  });
});
