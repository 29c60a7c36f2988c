/** What every `apiary` command line has, whichever of its commands it has. */
import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import { Status } from '../machine/status.ts';
import { PACKAGE_ROOT } from '../package-root.ts';
import { commandArguments } from '../start/which.ts';
import { oneLine } from './failures.ts';
import { lastWords } from './output.ts';
import { addRunOptions } from './run-options.ts';

export function commandLine(): Command {
  return new Command('apiary')
    .description(
      'Virtual machines on Linux KVM whose local APICs are TypeScript: run a guest, change a rule, see what happens.',
    )
    .configureOutput({ outputError: (text, write) => write(`${oneLine(text)} (apiary --help shows how)\n`) })
    .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : Status.usage))
    .option('--version', 'print the version')
    .on('option:version', printVersion)
    .enablePositionalOptions();
}

/** `run` as the help shows it, to which its action comes where it can be carried out (machine-program.ts). */
export function describeRun(program: Command): Command {
  const run = program.command('run').description('run a guest image');
  return addRunOptions(run.argument('<image>', 'ELF, multiboot, Linux or raw image'));
}

/** As `describeRun`. */
export function describeDemo(program: Command): Command {
  return program
    .command('demo')
    .description('boot the hotplug guest under every rule and print who took which interrupt (what `npm start` runs)')
    .option('--verbose', 'show what each guest prints')
    .option('--one-by-one', 'one guest after the other, for a slow host')
    .option('--json', 'the same for programs')
    .addHelpText('after', '\nExit status: 0 ours and the kernel agree, 1 they do not.\n\nExample:\n  apiary demo');
}

function printVersion(): never {
  const { version } = JSON.parse(readFileSync(new URL('package.json', PACKAGE_ROOT), 'utf8')) as { version: string };
  process.stdout.write(`${version}\n`);
  process.exit(0);
}

/**
 * Carries out what the arguments say, and ends the process once its output is out. If Node ended by itself, it would first
 * give the signal handlers back, and a late signal would decide on the status.
 */
export async function carryOut(program: Command): Promise<never> {
  await program.parseAsync(commandArguments(), { from: 'user' });
  await lastWords();
  process.exit();
}
