/** Why this host cannot run guests, for commands that then do without: no /dev/kvm, no permission, no addon, no Linux. */
import { accessSync, constants } from 'node:fs';
import { openAdvice } from '../kvm/device.ts';
import { HOSTS_FAULT } from './failures.ts';

const DEVICE = '/dev/kvm';

export interface WithoutKvm {
  /** In a few words. */
  readonly why: string;
  /** What to do; '' if nothing is known. */
  readonly remedy: string;
}

/** @returns undefined where guests can run, as far as the device tells */
export function whyNoKvm(): WithoutKvm | undefined {
  try {
    accessSync(DEVICE, constants.R_OK | constants.W_OK);
    return undefined;
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    return { why: `${DEVICE}: ${code}`, remedy: openAdvice(DEVICE, code) };
  }
}

/** @returns what `whyNoKvm` would say for an error of the host's or of loading the addon; undefined for any other error */
export function hostsWord(error: unknown): WithoutKvm | undefined {
  if (!(error instanceof Error) || !HOSTS_FAULT.has(error.name)) return undefined;
  return { why: error.message.split('\n', 1)[0] ?? '', remedy: '' };
}

/** In a line. */
export const wordsOf = ({ why, remedy }: WithoutKvm): string => (remedy === '' ? why : `${why}: ${remedy}`);
