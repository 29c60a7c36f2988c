/** How a command ends: a status, and for a person's mistake one line on stderr that says what, where and what to do. */
import { HostError } from '../machine/errors.ts';
import { Status } from '../machine/status.ts';
import { printable } from '../printable.ts';
import { errors, hurry, lastWords, output } from './output.ts';

/** How long output that nobody reads may hold up an end that does not wait for it. */
export const LAST_WORDS_MILLIS = 500;

/** Names of errors that are the host's: those that KVM refuses with, and an addon that does not load. */
export const HOSTS_FAULT: ReadonlySet<string> = new Set(['KvmError', 'HostError', 'AddonError']);
const CALLERS_FAULT = new Set(['ConfigError', 'ImageError', 'RangeError']);

/** commander's error message in the form of all others. */
export function oneLine(text: string): string {
  const line = text
    .trim()
    .replace(/^error: /, 'apiary: ')
    .replaceAll(/\s*\n\s*/g, ' ');
  return printable(line);
}

/** Wraps a command's action, which writes by output.ts alone: its result is the exit status, its errors become one line. */
export function guarded<Arguments extends unknown[]>(
  action: (...args: Arguments) => Promise<number>,
): (...args: Arguments) => Promise<void> {
  return async (...args) => {
    try {
      process.exitCode = await action(...args);
    } catch (error) {
      process.exitCode = report(error);
    }
  };
}

/** As `guarded`, for a command that writes as it likes and has nothing to put in order when it cannot: it ends at once. */
export function printing<Arguments extends unknown[]>(
  action: (...args: Arguments) => Promise<number>,
): (...args: Arguments) => Promise<void> {
  return async (...args) => {
    let failed: number | undefined;
    errors.onFailure(() => {});
    output.onFailure((error) => {
      failed = error.code === 'EPIPE' ? Status.outputGone : report(cannotPrint(error));
      process.exitCode = failed; // the process may end by itself before it is ended
      hurry(LAST_WORDS_MILLIS);
      void lastWords().then(() => process.exit(failed));
    });
    await guarded(action)(...args);
    if (failed !== undefined) process.exitCode = failed;
  };
}

/** @param error what standard output said, when it was not that its reader has gone */
export const cannotPrint = ({ code }: NodeJS.ErrnoException): HostError =>
  new HostError(`cannot write to standard output: ${code}`);

function report(error: unknown): number {
  if (!(error instanceof Error)) throw error;
  void errors.write(`apiary: ${printable(error.message.split('\n')[0] ?? '')}\n`);
  if (CALLERS_FAULT.has(error.name)) return Status.usage;
  if (HOSTS_FAULT.has(error.name)) return Status.host;
  void errors.write('  this is a bug in apiary; APIARY_DEBUG=1 shows where\n');
  if (process.env.APIARY_DEBUG) void errors.write(`${error.stack}\n`);
  return Status.bug;
}
