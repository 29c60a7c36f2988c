/** The options of `apiary rules`. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { BEHAVIOURS, type Behaviour } from '../apic/index.ts';

const KVM = BEHAVIOURS.filter((behaviour) => behaviour !== 'hardware');

const EXAMPLES = `
Examples:
  apiary rules
  apiary rules --diff kvm@6.1 kvm@6.18
  apiary rules --host
  apiary run guest/build/hello.elf --break gate`;

function kernel(text: string): Behaviour {
  const found = KVM.find((behaviour) => behaviour === text);
  if (found === undefined) throw new InvalidArgumentError(`choose two of ${KVM.join(', ')}.`);
  return found;
}

export function addRulesOptions(command: Command): Command {
  const diff = new Option('--diff <kernels...>', 'only the rules in which these two differ, each with a telling case');
  return command
    .addOption(
      diff.argParser((text: string, before: readonly Behaviour[] = []) => {
        if (before.length === 2) throw new InvalidArgumentError('give two.');
        return [...before, kernel(text)];
      }),
    )
    .option('--host', 'which of them the kernel under /dev/kvm follows, by its own answers to the telling cases')
    .hook('preAction', (self) => {
      const { diff: kernels } = self.opts<{ diff?: readonly Behaviour[] }>();
      if (kernels !== undefined && kernels.length !== 2) {
        self.error(`error: --diff needs two of ${KVM.join(', ')}, for example --diff kvm@6.1 kvm@6.18`);
      }
    })
    .addHelpText('after', EXAMPLES);
}
