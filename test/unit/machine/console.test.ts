/** Serial output on its way to main: lines at once, floods in large pieces, nothing held for long. */
import { beforeEach, describe, expect, test } from 'vitest';
import { Console } from '../../../src/machine/board/console.ts';

let now = 0;
let idle = true;
let sent: string[] = [];
let output: Console;

const put = (text: string): void => {
  for (const byte of Buffer.from(text)) output.put(byte);
};

beforeEach(() => {
  now = 1000;
  idle = true;
  sent = [];
  output = new Console(
    (bytes) => sent.push(Buffer.from(bytes).toString()),
    () => now,
    () => idle,
  );
});

describe('Console', () => {
  test('a line leaves at its end, as one message', () => {
    put('hello');
    expect(sent).toEqual([]);
    put('\nnext');
    expect(sent).toEqual(['hello\n']);
  });

  test('text without an end leaves 5 ms after its first byte, not before', () => {
    put('$ ');
    expect(output.deadlineNanos()).toBe(5_001_000);
    now = 4_000_000;
    put('ls');
    output.advance(5_000_999);
    expect(sent).toEqual([]);
    output.advance(5_001_000);
    expect(sent).toEqual(['$ ls']);
    expect(output.deadlineNanos()).toBe(Number.POSITIVE_INFINITY);
  });

  test('a batch of 4,096 bytes leaves by itself', () => {
    put('x'.repeat(4095));
    expect(sent).toEqual([]);
    put('x');
    expect(sent).toEqual(['x'.repeat(4096)]);
  });

  test('while main is busy, lines gather', () => {
    idle = false;
    put('a\nb\nc\n');
    expect(sent).toEqual([]);
    output.advance(output.deadlineNanos());
    expect(sent).toEqual(['a\nb\nc\n']);
  });

  test('flush() sends what is there, and nothing when there is nothing', () => {
    put('end');
    output.flush();
    output.flush();
    expect(sent).toEqual(['end']);
  });

  test('a batch that was sent is not changed by what comes after', () => {
    const kept: Uint8Array[] = [];
    output = new Console(
      (bytes) => kept.push(bytes),
      () => now,
      () => true,
    );
    put('one\ntwo\n');
    expect(kept.map((bytes) => Buffer.from(bytes).toString())).toEqual(['one\n', 'two\n']);
  });
});
