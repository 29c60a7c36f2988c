/** The options of `apiary explore`. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { wholeNumber } from './parse.ts';

export interface ExploreCommandOptions {
  readonly preemptions: number;
  readonly deep?: boolean;
  readonly memory: 'tso' | 'sc';
  readonly schedule?: string;
  readonly trace?: string;
  readonly list?: boolean;
}

const MAX_PREEMPTIONS = 100;

const EXAMPLES = `
Runs the code of the APICs and of the run loop as it is, without threads and without KVM, in every order that their
accesses to shared memory can have. Exit status: 0 if every promise holds in every schedule, 1 if not, 2 for wrong options.

Examples:
  apiary explore                                      # every scenario
  apiary explore map-twins --preemptions all          # no bound
  apiary explore map-twins --schedule a2b --trace t.json`;

function preemptions(text: string): number {
  if (text === 'all') return Number.POSITIVE_INFINITY;
  const value = wholeNumber(text);
  if (value > MAX_PREEMPTIONS) throw new InvalidArgumentError(`'${text}' is too large; write 'all' for no bound.`);
  return value;
}

export function addExploreOptions(command: Command): Command {
  return command
    .argument('[scenarios...]', 'which scenarios (--list names them); default: all')
    .option(
      '--preemptions <n>',
      "how often a thread that could go on may be taken off; 'all': no bound",
      preemptions,
      2,
    )
    .option('--deep', 'three preemptions')
    .addOption(
      new Option('--memory <model>', "x86's store buffers (tso), or every store in memory at once (sc)")
        .choices(['tso', 'sc'])
        .default('tso'),
    )
    .option('--schedule <text>', 'run one schedule of one scenario, and show it')
    .option('--trace <file>', "write one scenario's finding or schedule for ui.perfetto.dev")
    .option('--list', 'what each scenario checks, and the file that promises it')
    .addHelpText('after', EXAMPLES);
}
