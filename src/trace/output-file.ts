/**
 * The file that a trace goes to. Opening never waits: neither for the reader of a pipe, which is refused, nor for a terminal.
 * What cannot be opened or written is the person's mistake, in one line.
 */
import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { ConfigError } from '../machine/errors.ts';

/** @returns its descriptor. @throws ConfigError */
export function openForWriting(path: string): number {
  const { O_WRONLY, O_CREAT, O_TRUNC, O_NONBLOCK, O_NOCTTY } = constants;
  try {
    const fd = openSync(path, O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK | O_NOCTTY, 0o666);
    if (!fstatSync(fd).isFIFO()) return fd;
    closeSync(fd);
  } catch (error) {
    throw cannotWrite(path, error);
  }
  throw cannotWrite(path, { code: 'ENXIO' });
}

export function cannotWrite(path: string, error: unknown): ConfigError {
  const { code } = error as NodeJS.ErrnoException;
  const why = code === 'ENXIO' ? 'a pipe or socket' : code;
  return new ConfigError(`cannot write trace ${path}: ${why}; give a file that can be written`);
}
