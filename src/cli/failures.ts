/** How a command ends: a status, and for a person's mistake one line on stderr that says what, where and what to do. */
import { HostError } from '../machine/errors.ts';
import { printable } from '../printable.ts';

/** Status for the caller's fault: wrong options, images, IDs. */
export const USAGE_STATUS = 2;
/** Status when the host cannot do it: no /dev/kvm, no permission, out of descriptors. */
const HOST_STATUS = 1;
/** 128 + SIGPIPE: whoever read our output has gone, which is no error of anybody's. */
export const BROKEN_PIPE_STATUS = 141;
const SOFTWARE_STATUS = 70; // EX_SOFTWARE of sysexits.h: our own bug

const HOSTS_FAULT = new Set(['KvmError', 'HostError', 'AddonError']);
const CALLERS_FAULT = new Set(['ConfigError', 'ImageError', 'RangeError']);

/** commander's error message in the form of all others. */
export function oneLine(text: string): string {
  const line = text
    .trim()
    .replace(/^error: /, 'apiary: ')
    .replaceAll(/\s*\n\s*/g, ' ');
  return printable(line);
}

/** Wraps a command's action: its result is the exit status, its errors become one line. */
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

/** As `guarded`, for a command that has nothing to put in order when its output cannot be written: it ends at once. */
export function printing<Arguments extends unknown[]>(
  action: (...args: Arguments) => Promise<number>,
): (...args: Arguments) => Promise<void> {
  return (...args) => {
    process.stdout.once('error', (error: NodeJS.ErrnoException) =>
      process.exit(error.code === 'EPIPE' ? BROKEN_PIPE_STATUS : report(cannotPrint(error))),
    );
    return guarded(action)(...args);
  };
}

/** @param error what standard output said, when it was not that its reader has gone */
export const cannotPrint = ({ code }: NodeJS.ErrnoException): HostError =>
  new HostError(`cannot write to standard output: ${code}`);

function report(error: unknown): number {
  if (!(error instanceof Error)) throw error;
  process.stderr.write(`apiary: ${printable(error.message.split('\n')[0] ?? '')}\n`);
  if (CALLERS_FAULT.has(error.name)) return USAGE_STATUS;
  if (HOSTS_FAULT.has(error.name)) return HOST_STATUS;
  process.stderr.write('  this is a bug in apiary; APIARY_DEBUG=1 shows where\n');
  if (process.env.APIARY_DEBUG) process.stderr.write(`${error.stack}\n`);
  return SOFTWARE_STATUS;
}
