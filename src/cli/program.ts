/**
 * The `apiary` command line without the commands that run machines (machine-program.ts), of which it has the help: one file
 * for each, loaded when it is asked for.
 */
import { carryOut, commandLine, describeDemo, describeRun } from './command-line.ts';
import type { ConformOptions } from './conform.ts';
import { addConformOptions } from './conform-options.ts';
import type { ExploreCommandOptions } from './explore-options.ts';
import { addExploreOptions } from './explore-options.ts';
import { printing } from './failures.ts';
import { addRouteOptions, type RouteCommandOptions } from './route-options.ts';
import type { RulesOptions } from './rules.ts';
import { addRulesOptions } from './rules-options.ts';
import type { SuiteCommandOptions } from './suite-options.ts';
import { addSuiteOptions } from './suite-options.ts';

const program = commandLine();
describeRun(program);
describeDemo(program);

addConformOptions(
  program.command('conform').description('compare our local APICs with the ones in KVM, case by random case'),
).action(printing(async (options: ConformOptions) => (await import('./conform.ts')).conform(options)));

addExploreOptions(
  program.command('explore').description('run the protocols in shared memory in every order that threads can make'),
).action(
  printing(async (scenarios: string[], options: ExploreCommandOptions) =>
    (await import('./explore.ts')).explore(scenarios, options),
  ),
);
addRulesOptions(
  program.command('rules').description('list the rules of the local APICs, and in which of them kernels differ'),
).action(printing(async (options: RulesOptions) => (await import('./rules.ts')).rules(options)));
addRouteOptions(
  program.command('route').description('say who takes an interrupt, by which rules and why; needs no KVM'),
).action(printing(async (options: RouteCommandOptions) => (await import('./route.ts')).route(options)));

addSuiteOptions(program.command('suite').description('run the kvm-unit-tests images that you have built')).action(
  printing(async (directory: string, options: SuiteCommandOptions) =>
    (await import('./suite.ts')).suite(directory, options),
  ),
);

program
  .command('doctor')
  .description('say whether this machine can run guests, and what to do if not')
  .option('--json', 'print what was found as JSON')
  .addHelpText(
    'after',
    '\nExit status: 0 guests can run, 4 they cannot.\n\nExample:\n  apiary doctor || echo "see above"',
  )
  .action(printing(async (options: { json?: boolean }) => (await import('./doctor.ts')).doctor(options)));

void carryOut(program);
