/** Option values as people write them: numbers, lists of APIC IDs, durations. Errors are commander's, so it names the option. */
import { InvalidArgumentError } from 'commander';
import { ConfigError } from '../machine/errors.ts';
import { parseSize } from '../machine/options.ts';

/** A size that is a number alone is in MiB below this: nobody means so few bytes. */
const MIB_UP_TO = 65_536;

/** '291' or '0x123'. */
export function wholeNumber(text: string): number {
  if (!/^(0x[\da-f]+|\d+)$/i.test(text.trim())) {
    throw new InvalidArgumentError(`'${text}' is not a whole number; write for example 4 or 0x23.`);
  }
  const value = Number(text);
  if (!Number.isSafeInteger(value)) throw new InvalidArgumentError(`'${text}' is too large.`);
  return value;
}

/** '64M', '1G', '65536K', or as QEMU's -m a small number alone, in MiB; a large one is in bytes. */
export function size(text: string): number {
  try {
    const bytes = parseSize(text);
    return /^\d+$/.test(text.trim()) && bytes < MIB_UP_TO ? bytes * 2 ** 20 : bytes;
  } catch (error) {
    if (error instanceof ConfigError) throw new InvalidArgumentError(`${error.message}.`);
    throw error;
  }
}

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** '500ms', '30s', '2m', '1h', '1d', '30' (seconds) -> milliseconds. */
export function duration(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)?$/.exec(text.trim());
  if (!match) throw new InvalidArgumentError(`'${text}' is not a duration; write for example 500ms, 30s, 2m or 1h.`);
  const millis = Number(match[1]) * (UNITS[match[2] ?? 's'] ?? 1000);
  if (millis <= 0 || millis > 2 ** 31 - 1) throw new InvalidArgumentError(`'${text}' is out of range: 1ms to 24 days.`);
  return millis;
}

/** What --cpus says: APIC IDs of the CPUs that are there at start, and of those that may be hot-added. */
export interface CpuList {
  readonly cpus: readonly number[];
  readonly hotpluggable: readonly number[];
}

const MAX_LISTED_CPUS = 65_536;

/**
 * '4' is a number of CPUs; '0,1,0x23' are APIC IDs, and so is '0x23' alone, since nobody counts in hexadecimal. 'maxcpus=300' leaves room for more, 'ids=0,1,0x23,0x123' names the IDs
 * when a number stands before it: '2,maxcpus=8,ids=0,0x123' starts with 0 and 0x123 and lists the next free IDs as absent.
 */
export function cpuList(text: string): CpuList {
  const plain: number[] = [];
  const named: number[] = [];
  let maxcpus = 0;
  let inIds = false;
  let isHex = false;
  for (const word of text.split(',').map((each) => each.trim())) {
    const option = /^([a-z]+)=(.*)$/.exec(word);
    if (!option) {
      (inIds ? named : plain).push(wholeNumber(word));
      isHex ||= !inIds && /^0x/i.test(word);
    } else if (option[1] === 'ids') {
      inIds = true;
      named.push(wholeNumber(option[2]));
    } else if (option[1] === 'maxcpus') {
      inIds = false;
      maxcpus = countOf(option[2]);
    } else {
      throw new InvalidArgumentError(`'${word}' is not known; write 4, 0,1,0x23, maxcpus=300 or ids=0,1,0x23.`);
    }
  }
  if (named.length > 0 && plain.length > 1)
    throw new InvalidArgumentError('give APIC IDs either plainly or after ids=.');
  if (plain.length > 1) return withRoom(plain, plain.length, maxcpus);
  if (named.length > 0) return withRoom(named, plain.length === 1 ? plain[0] : named.length, maxcpus);
  if (isHex && plain.length === 1) return withRoom(plain, 1, maxcpus);
  return withRoom([], countOf(String(plain[0] ?? 1)), maxcpus);
}

function countOf(text: string): number {
  const count = wholeNumber(text);
  if (count < 1 || count > MAX_LISTED_CPUS) {
    throw new InvalidArgumentError(`${count} CPUs are out of range: give 1 or more, as many as the host's KVM runs.`);
  }
  return count;
}

/** The first `present` of `ids` are there at start; the list is filled up with the lowest free IDs. */
function withRoom(ids: readonly number[], present: number, maxcpus: number): CpuList {
  const all = [...ids];
  const taken = new Set(ids);
  for (let id = 0; all.length < Math.max(present, maxcpus); id++) if (!taken.has(id)) all.push(id);
  return { cpus: all.slice(0, present), hotpluggable: all.slice(present) };
}
