/** Which of the two programs a command line is for, and whether a thread is worth starting before that is loaded. */
import { accessSync, constants } from 'node:fs';

const RUN_MACHINES: readonly string[] = ['run', 'demo'];
const HELP: readonly string[] = ['-h', '--help'];
const SCRIPT = /^--script(=|$)/;
/** What a machine that can do without a thread for a while (machine/opening.ts) has none of. */
const NEEDS_THREAD = /^--(cpus|apic|trace|sandbox|script)(=|$)/;

/** @returns what is asked for: the command and what belongs to it, without Node, the program and what ends its options */
export function commandArguments(): string[] {
  const args = process.argv.slice(2);
  while (args[0] === '--') args.shift();
  return args;
}

/** @param args as `commandArguments` has them @returns whether the command runs machines (cli/machine-program.ts) */
export function runsMachine([command = '']: readonly string[]): boolean {
  return RUN_MACHINES.includes(command);
}

/** Of a command that runs machines: whether it will need a thread before its guest has run a while, as far as can be seen. */
export function needsThread(args: readonly string[]): boolean {
  if (args.some((each) => HELP.includes(each))) return false;
  if (args[0] === 'run' && !args.some((each) => NEEDS_THREAD.test(each))) return false;
  return args.some((each) => SCRIPT.test(each)) || mayUseKvm();
}

function mayUseKvm(): boolean {
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}
