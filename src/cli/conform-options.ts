/** The options of `apiary conform`. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { BEHAVIOURS } from '../apic/index.ts';
import { duration, wholeNumber } from './parse.ts';

const EXAMPLES = `
Layer 1 routes random messages on random machines, layer 2 carries out register accesses in a guest, layer 3 races.
Exit status: 0 if all was equal, 1 if not, 2 for wrong options, 6 if all was equal but not every rule was seen,
8 if a layer had to be left out.

Examples:
  apiary conform --seconds 10
  apiary conform --layer 1 --break gate     # switch off one rule and see it caught
  apiary conform --break list
  apiary conform --replay                   # without KVM: what kernels answered
  apiary conform --table                    # who takes an interrupt to 0xff, 0x00, 0x1ff, 0x23, 0x123`;

const SEED_LIMIT = 2 ** 31;

function seed(text: string): number {
  const value = wholeNumber(text);
  if (value >= SEED_LIMIT) throw new InvalidArgumentError(`a seed is below ${SEED_LIMIT}.`);
  return value;
}

/** fast-check's path, of which the first number is the machine in its batch; the rest would be shrinking. */
function path(text: string): string {
  if (!/^\d{1,9}$/.test(text))
    throw new InvalidArgumentError(`'${text}' is no path; give the number of a failure's last line.`);
  return text;
}

export function addConformOptions(command: Command): Command {
  return command
    .addOption(
      new Option('--layer <n>', 'only this layer').choices(['1', '2', '3']).argParser((text) => {
        if (!['1', '2', '3'].includes(text)) throw new InvalidArgumentError('layers are 1, 2 and 3.');
        return Number(text);
      }),
    )
    .option('--seconds <n>', 'how long each layer looks', (text) => duration(text) / 1000, 60)
    .option('--seed <n>', 'where randomness starts; default: a fresh one, which is printed', seed)
    .option('--path <path>', "one case of that seed, as a failure's last line says", path)
    .addOption(
      new Option(
        '--behaviour <rules>',
        "which rules our APICs follow; default: those of this host's kernel, with --replay the recording's",
      ).choices([...BEHAVIOURS]),
    )
    .option('--break <rule>', "switch off one of our rules, to see that it would be noticed; 'list' shows them")
    .option('--record <file>', "write the kernel's answers to random cases (layers 1 and 2) into a file")
    .option('--replay [file]', 'judge our APICs by recorded answers, without KVM; default: all that the package has')
    .option('--no-cr8-writes', "layer 2: no guest writes CR8, which QEMU's emulation of SVM does not survive")
    .option('--coverage', 'list every rule and path with how often it was seen')
    .option(
      '--table',
      'who takes an interrupt to 0xff, 0x00, 0x1ff, 0x23, 0x123, by gate, quirk, sender, mode and order',
    )
    .option('--json', 'the same for programs; with --replay, --table, --record and --break list as well')
    .addHelpText('after', EXAMPLES);
}
