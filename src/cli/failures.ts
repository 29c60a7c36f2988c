/** How a command ends: a status, and for a person's mistake one line on stderr that says what, where and what to do. */

/** Status for the caller's fault: wrong options, images, IDs. */
export const USAGE_STATUS = 2;
/** Status when the host cannot do it: no /dev/kvm, no permission, out of descriptors. */
const HOST_STATUS = 1;
const SOFTWARE_STATUS = 70; // EX_SOFTWARE of sysexits.h: our own bug

const HOSTS_FAULT = new Set(['KvmError', 'HostError']);
const CALLERS_FAULT = new Set(['ConfigError', 'ImageError', 'RangeError']);

/** commander's error message in the form of all others. */
export function oneLine(text: string): string {
  return text
    .trim()
    .replace(/^error: /, 'apiary: ')
    .replaceAll(/\s*\n\s*/g, ' ');
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

function report(error: unknown): number {
  if (!(error instanceof Error)) throw error;
  process.stderr.write(`apiary: ${error.message.split('\n')[0]}\n`);
  if (CALLERS_FAULT.has(error.name)) return USAGE_STATUS;
  if (HOSTS_FAULT.has(error.name)) return HOST_STATUS;
  process.stderr.write('  this is a bug in apiary; APIARY_DEBUG=1 shows where\n');
  if (process.env.APIARY_DEBUG) process.stderr.write(`${error.stack}\n`);
  return SOFTWARE_STATUS;
}
