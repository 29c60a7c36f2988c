/** The options of `apiary suite`. */
import { availableParallelism } from 'node:os';
import { type Command, Option } from 'commander';
import { REPORT_FORMATS, type ReportFormat } from '../suite/report.ts';
import { duration, wholeNumber } from './parse.ts';

export interface SuiteCommandOptions {
  readonly filter?: readonly string[];
  readonly jobs: number;
  readonly format: ReportFormat;
  readonly output?: string;
  readonly baseline?: string;
  readonly writeBaseline?: string;
  readonly timeout?: number;
  readonly cpu: string;
  readonly apic: 'user' | 'kernel';
  readonly x2apicApi?: string;
  readonly behaviour?: string;
}

const EXAMPLES = `
DIR is a checkout of kvm-unit-tests in which you have run ./configure && make. What an image prints is in the JUnit report.

Exit status: 0 if nothing failed (with --baseline: nothing that did not fail then), 1 if something did, 2 for wrong options.

Examples:
  apiary suite ~/kvm-unit-tests --filter x2apic --filter xapic
  apiary suite ~/kvm-unit-tests --filter vmexit --jobs 1
  apiary suite ~/kvm-unit-tests --write-baseline good.json
  apiary suite ~/kvm-unit-tests --baseline good.json --format junit --output suite.xml`;

function listed(word: string, words: readonly string[] = []): string[] {
  return [...words, ...word.split(',').filter(Boolean)];
}

export function addSuiteOptions(command: Command): Command {
  return command
    .argument('<dir>', 'a kvm-unit-tests checkout that you have built')
    .option('--filter <names>', 'only these tests or groups (repeatable, or with commas)', listed)
    .option('--jobs <n>', 'images at once', wholeNumber, Math.max(1, Math.floor(availableParallelism() / 2)))
    .addOption(new Option('--format <form>', 'how to report').choices([...REPORT_FORMATS]).default('text'))
    .option('--output <file>', 'write the report there; the lines for people then stay on the terminal')
    .option('--baseline <file>', 'compare with what --write-baseline kept')
    .option('--write-baseline <file>', 'keep outcomes and failed checks')
    .option('--timeout <time>', "for each image, in place of the suite's own, e.g. 5m", duration)
    .option('--cpu <features>', "CPU features for every image, before the image's own, e.g. host,-cx16,-xsave", 'host')
    .addOption(
      new Option('--apic <whose>', 'our local APICs or the ones in KVM').choices(['user', 'kernel']).default('user'),
    )
    .option('--x2apic-api <flags>', 'as for run')
    .option('--behaviour <rules>', 'as for run')
    .addHelpText('after', EXAMPLES);
}
