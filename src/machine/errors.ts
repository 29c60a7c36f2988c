import { printable } from '../printable.ts';

/** The caller's fault: one line that says what is wrong, where, and what to do. The command exits with status 2 on it. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';

  constructor(message: string) {
    super(printable(message)); // paths and names are in it as they were given
  }
}

/** The host cannot: no thread, no descriptor, no memory. The command exits with status 4 on it, as on a KvmError. */
export class HostError extends Error {
  override readonly name = 'HostError';
}
