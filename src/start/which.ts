/** Which of the two programs a command line is for. */
const RUN_MACHINES: readonly string[] = ['run', 'demo'];

/** @param args without Node and the program @returns whether the command runs machines (cli/machine-program.ts) */
export function runsMachine([command = '']: readonly string[]): boolean {
  return RUN_MACHINES.includes(command);
}
