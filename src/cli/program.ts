/** The `apiary` command line: one file for each subcommand, loaded when it is asked for. */
import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import { Status } from '../machine/status.ts';
import { PACKAGE_ROOT } from '../package-root.ts';
import type { ConformOptions } from './conform.ts';
import { addConformOptions } from './conform-options.ts';
import type { DemoOptions } from './demo.ts';
import type { ExploreCommandOptions } from './explore-options.ts';
import { addExploreOptions } from './explore-options.ts';
import { guarded, oneLine, printing } from './failures.ts';
import { lastWords } from './output.ts';
import { addRouteOptions, type RouteCommandOptions } from './route-options.ts';
import type { RulesOptions } from './rules.ts';
import { addRulesOptions } from './rules-options.ts';
import { addRunOptions } from './run-options.ts';
import type { SuiteCommandOptions } from './suite-options.ts';
import { addSuiteOptions } from './suite-options.ts';

const program = new Command('apiary')
  .description(
    'Virtual machines on Linux KVM whose local APICs are TypeScript: run a guest, change a rule, see what happens.',
  )
  .configureOutput({ outputError: (text, write) => write(`${oneLine(text)} (apiary --help shows how)\n`) })
  .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : Status.usage))
  .option('--version', 'print the version')
  .on('option:version', printVersion)
  .enablePositionalOptions();

addRunOptions(
  program.command('run').description('run a guest image').argument('<image>', 'ELF, multiboot, Linux or raw image'),
).action(guarded(async (image: string, options) => (await import('./run.ts')).run(image, options)));

program
  .command('demo')
  .description('boot the hotplug guest under every rule and print who took which interrupt (what `npm start` runs)')
  .option('--verbose', 'show what each guest prints')
  .option('--one-by-one', 'one guest after the other, for a slow host')
  .option('--json', 'the same for programs')
  .addHelpText('after', '\nExit status: 0 ours and the kernel agree, 1 they do not.\n\nExample:\n  apiary demo')
  .action(printing(async (options: DemoOptions) => (await import('./demo.ts')).demo(options)));

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

function printVersion(): never {
  const { version } = JSON.parse(readFileSync(new URL('package.json', PACKAGE_ROOT), 'utf8')) as { version: string };
  process.stdout.write(`${version}\n`);
  process.exit(0);
}

/**
 * Ends the process once its output is out. If Node ended by itself, it would first give the signal handlers back, and a late
 * signal would decide on the status.
 */
async function end(): Promise<never> {
  await lastWords();
  process.exit();
}

void program.parseAsync().then(end);
