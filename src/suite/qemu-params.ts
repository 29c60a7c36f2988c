/**
 * What the QEMU options of a unittests.cfg mean to a machine of ours: words in, options of `apiary run` out, or the reason
 * why there is no such machine here (the test is then skipped, as theirs are when QEMU refuses).
 *
 * Our one CPU model is the host's, so every model's name becomes `host`. QEMU gives a feature that is asked for by name only
 * where the host has it, and then it is in `host` already; features that are to be hidden keep their meaning.
 */
import { parseArgsStringToArgv } from 'string-argv';
import { featureBit } from '../machine/cpuid/features.ts';
import type { UnitTest } from './unittests-config.ts';

/** A machine for one test. */
export interface MachinePlan {
  readonly cpus: number;
  /** Features to take away: `-name`. */
  readonly features: readonly string[];
  /** As QEMU writes it (`4g`, `2048` in MiB), in bytes. */
  readonly memoryBytes: number;
  readonly commandLine: string | undefined;
}

export type Planned = { readonly plan: MachinePlan } | { readonly skip: string };

const DEFAULT_MEMORY = 128 * 2 ** 20; // QEMU's
const MAX_MEMORY = 3 * 2 ** 30;

/** Options that change nothing in what a guest of ours sees; those marked 1 have a value. */
const IGNORED: ReadonlyMap<string, number> = new Map([
  ['-enable-kvm', 0],
  ['-no-reboot', 0],
  ['-nodefaults', 0],
  ['-nographic', 0],
  ['-overcommit', 1],
  ['-global', 1],
]);
/** Machine properties that are ours already, or that a test only wants off so that KVM's own code runs another way. */
const IGNORED_MACHINE = /^(pc|q35|pit=(on|off)|accel=kvm|vmport=off|smm=(on|off)|usb=off)$/;
const IGNORED_CPU = /^(migratable|host-phys-bits|vendor|check|enforce)(=|$)/;
const DEVICES = /^(pc-testdev|isa-debug-exit|pci-testdev)\b/;

/** @param maxCpus stands for `$MAX_SMP` */
export function planMachine(test: UnitTest, maxCpus: number): Planned {
  const backquoted = expand(`${test.testArgs === '' ? '' : `-append ${test.testArgs}`} ${test.params}`);
  if (backquoted.includes('`')) return { skip: 'its arguments run a shell command' };
  const words = parseArgsStringToArgv(backquoted);
  let cpus = cpuCount(test.smp, maxCpus);
  let features: readonly string[] = [];
  let memoryBytes = DEFAULT_MEMORY;
  let commandLine: string | undefined;
  for (let at = 0; at < words.length; at++) {
    const option = words[at] ?? '';
    const ignored = IGNORED.get(option);
    if (ignored !== undefined) {
      at += ignored;
      continue;
    }
    const value = words[++at] ?? '';
    switch (option) {
      case '-append':
        commandLine = value;
        break;
      case '-smp':
        cpus = cpuCount(value, maxCpus);
        break;
      case '-m':
        memoryBytes = megabytes(value);
        break;
      case '-cpu': {
        const wanted = cpuFeatures(value);
        if (typeof wanted === 'string') return { skip: wanted };
        features = wanted;
        break;
      }
      case '-M':
      case '-machine': {
        const unknown = value.split(',').find((property) => !IGNORED_MACHINE.test(property));
        if (unknown !== undefined) return { skip: `no -machine ${unknown} here` };
        break;
      }
      case '-device':
        if (!DEVICES.test(value)) return { skip: `no -device ${value.split(',')[0]} here` };
        break;
      default:
        return { skip: `no QEMU option ${option} here` };
    }
  }
  if (!Number.isInteger(cpus) || cpus < 1) return { skip: `smp = ${test.smp} is no number` };
  if (!(memoryBytes <= MAX_MEMORY)) return { skip: 'needs more than 3 GiB of memory' };
  return { plan: { cpus, features, memoryBytes, commandLine } };
}

/** The one shell command that their file uses. */
function expand(text: string): string {
  return text.replaceAll('`date +%s`', String(Math.floor(Date.now() / 1000)));
}

function cpuCount(text: string, maxCpus: number): number {
  const count = /^(?:cpus=)?(\d+)/.exec(text)?.[1];
  return text === '$MAX_SMP' ? maxCpus : Number(count ?? Number.NaN);
}

/** QEMU's -m: MiB unless a suffix says otherwise. NaN when it is no size. */
function megabytes(text: string): number {
  const match = /^(?:size=)?(\d+)([kmgKMG]?)/.exec(text);
  const shift = { k: 10, m: 20, g: 30 }[(match?.[2] || 'm').toLowerCase()] ?? 20;
  return Number(match?.[1] ?? Number.NaN) * 2 ** shift;
}

/** @returns the `-name` words of a -cpu value, or why it cannot be */
function cpuFeatures(value: string): readonly string[] | string {
  const features: string[] = [];
  for (const word of value.split(',').slice(1)) {
    const assigned = /^([^=]+)=(on|off)$/.exec(word);
    if (word.startsWith('+') || IGNORED_CPU.test(word) || assigned?.[2] === 'on') continue;
    const hidden = word.startsWith('-') ? word.slice(1) : assigned?.[1];
    if (hidden === undefined || !featureBit(hidden)) return `no -cpu ${word} here`;
    features.push(`-${hidden}`);
  }
  return features;
}
