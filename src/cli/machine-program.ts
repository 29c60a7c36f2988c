/**
 * The commands that run machines. A program of their own, since they are what people wait for: a third of the whole command
 * to load, and only the options of the one that was asked for to make.
 */
import { commandArguments } from '../start/which.ts';
import { carryOut, commandLine, describeDemo, describeRun } from './command-line.ts';
import type { DemoOptions } from './demo.ts';
import { guarded, printing } from './failures.ts';
import type { RunOptions } from './run-options.ts';

const program = commandLine();
if (commandArguments()[0] === 'demo') {
  describeDemo(program).action(printing(async (options: DemoOptions) => (await import('./demo.ts')).demo(options)));
} else {
  describeRun(program).action(
    guarded(async (image: string, options: RunOptions) => (await import('./run.ts')).run(image, options)),
  );
}
void carryOut(program);
