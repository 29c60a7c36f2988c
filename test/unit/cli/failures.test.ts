/** From errors to exit statuses: one line, no stack trace, and whose fault it was. */
import { afterEach, describe, expect, test, vi } from 'vitest';
import { guarded, oneLine } from '../../../src/cli/failures.ts';
import { lastWords } from '../../../src/cli/output.ts';
import { KvmError } from '../../../src/kvm/errors.ts';
import { ConfigError, HostError } from '../../../src/machine/errors.ts';

afterEach(() => {
  vi.restoreAllMocks();
  process.exitCode = undefined;
});

async function outcome(action: () => Promise<number>): Promise<[string | number | undefined, string]> {
  let text = '';
  vi.spyOn(process.stderr, 'write').mockImplementation((chunk: unknown, ...rest: unknown[]) => {
    text += chunk;
    for (const written of rest) if (typeof written === 'function') written();
    return true;
  });
  await guarded(action)();
  await lastWords();
  return [process.exitCode ?? undefined, text];
}

const failing = (error: unknown) => () => Promise.reject(error);

describe('guarded', () => {
  test("an action's result is the status", async () => expect(await outcome(async () => 7)).toEqual([7, '']));

  test.each([
    ['the caller', new ConfigError('no such file: x'), 2, 'apiary: no such file: x\n'],
    [
      'the caller, whatever a name has in it',
      new ConfigError('a\n\x1b[2J\u202eb'),
      2,
      'apiary: a\\n\\x1b[2J\\u{202e}b\n',
    ],
    ['the host, in our words only', new HostError('first\nsecond'), 4, 'apiary: first\n'],
    ['the host', new HostError('no thread to be had'), 4, 'apiary: no thread to be had\n'],
    ['KVM', new KvmError('KVM_RUN', 14), 4, 'apiary: KVM_RUN: EFAULT\n'],
  ])('%s', async (_name, error, status, text) => expect(await outcome(failing(error))).toEqual([status, text]));

  test('a bug of ours says so, and how to see where', async () => {
    const [status, text] = await outcome(failing(new TypeError('x is undefined')));
    expect(status).toBe(70);
    expect(text).toBe('apiary: x is undefined\n  this is a bug in apiary; APIARY_DEBUG=1 shows where\n');
  });
});

test('oneLine puts a message of commander in our form', () => {
  expect(oneLine("error: unknown command 'rum'\n(Did you mean run?)\n")).toBe(
    "apiary: unknown command 'rum' (Did you mean run?)",
  );
});
