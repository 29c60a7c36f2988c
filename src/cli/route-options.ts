/** The options of `apiary route`. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { BEHAVIOURS, type Behaviour, DELIVERY, DELIVERY_NAMES } from '../apic/index.ts';
import type { RouteCpu } from '../route/route.ts';
import { wholeNumber } from './parse.ts';

export interface RouteCommandOptions {
  readonly cpus: readonly RouteCpu[];
  readonly gate: 'on' | 'off';
  readonly broadcastQuirk: boolean;
  readonly from?: number;
  readonly to: number;
  readonly logical?: boolean;
  readonly mode: number;
  readonly vector: number;
  readonly behaviour?: Behaviour;
  readonly break?: string;
  readonly json?: boolean;
}

const EXAMPLES = `
A CPU is its APIC ID, and what differs from an APIC in xAPIC mode that is software-enabled:
  0x123:x2apic           in x2APIC mode             0x123:off            off in IA32_APIC_BASE
  0x123:disabled         software-disabled          0x23:id=0x24         another xAPIC ID
  0x23:ldr=0x4           another logical ID         0x23:cluster         cluster model (DFR)
  0x23:tpr=0x50          its task priority (TPR)    0x23:isr=0x61        a vector in service
With --mode lowest each CPU's priority (PPR), made from the last two, is shown. Without ldr= the logical ID is a bit of its own. They are created in the order given. Needs no KVM.

Examples:
  apiary route --cpus 0:x2apic,0x23,0x123 --to 0x23 --from 0
  apiary route --cpus 0:x2apic,0x23,0x123 --to 0x23 --gate on --behaviour kvm --break firstAliasWins
  apiary route --cpus 0,1,2:disabled --to 0x7 --logical --mode lowest
  apiary route --cpus 0:tpr=0x50,1,2:isr=0x61 --to 0x7 --logical --mode lowest --behaviour hardware`;

const LIMIT_CPUS = 4096;
const LOWEST_VECTOR = 0x10;
const MODES = DELIVERY_NAMES.join(', ');

function bounded(what: string, most: number): (text: string) => number {
  return (text) => {
    const value = wholeNumber(text);
    if (value > most) throw new InvalidArgumentError(`${what} is at most 0x${most.toString(16)}.`);
    return value;
  };
}

/** '0:x2apic,0x23,0x123:off' */
export function routeCpus(text: string): RouteCpu[] {
  const cpus = text.split(',').map((word, i) => routeCpu(word.trim(), i));
  if (cpus.length > LIMIT_CPUS) throw new InvalidArgumentError(`there are at most ${LIMIT_CPUS} CPUs.`);
  for (const [i, { apicId }] of cpus.entries())
    if (cpus.findIndex((each) => each.apicId === apicId) !== i)
      throw new InvalidArgumentError(`0x${apicId.toString(16)} is given twice.`);
  return cpus;
}

function routeCpu(text: string, index: number): RouteCpu {
  const [id = '', ...words] = text.split(':');
  const ownBit = index < 8 ? 1 << index : 0;
  const apicId = bounded('an APIC ID', 0xffff)(id);
  let cpu: RouteCpu = { apicId, mode: 'xapic', softwareEnabled: true, logicalId: ownBit, cluster: false };
  for (const word of words) cpu = { ...cpu, ...cpuWord(word) };
  return cpu;
}

function cpuWord(word: string): Partial<RouteCpu> {
  const byte = bounded('that register field', 0xff);
  if (word === 'x2apic' || word === 'xapic') return { mode: word };
  if (word === 'off') return { mode: 'disabled' };
  if (word === 'disabled') return { softwareEnabled: false };
  if (word === 'cluster') return { cluster: true };
  if (word.startsWith('ldr=')) return { logicalId: byte(word.slice(4)) };
  if (word.startsWith('tpr=')) return { tpr: byte(word.slice(4)) };
  if (word.startsWith('isr=')) return { inService: vectorInService(byte(word.slice(4))) };
  if (word.startsWith('id=')) return { xapicId: byte(word.slice(3)) };
  throw new InvalidArgumentError(
    `'${word}' is not known; write x2apic, xapic, off, disabled, cluster, ldr=, id=, tpr=, isr=.`,
  );
}

function vectorInService(vector: number): number {
  if (vector < LOWEST_VECTOR) throw new InvalidArgumentError('vectors below 0x10 are never in service.');
  return vector;
}

export function addRouteOptions(command: Command): Command {
  return command
    .requiredOption('--cpus <list>', 'the APICs, for example 0:x2apic,0x23,0x123', routeCpus)
    .requiredOption('--to <id>', 'the destination', bounded('a destination', 0xffff_ffff))
    .option('--from <id>', 'APIC ID of the CPU that sends; default: a device, by MSI', wholeNumber)
    .option('--logical', 'the destination is a logical ID')
    .addOption(
      new Option('--mode <delivery>', `delivery mode: ${MODES}`)
        .argParser((text) => {
          const mode = DELIVERY_NAMES.indexOf(text as (typeof DELIVERY_NAMES)[number]);
          if (mode < 0) throw new InvalidArgumentError(`choose ${MODES}.`);
          return mode;
        })
        .default(DELIVERY.FIXED, 'fixed'),
    )
    .option('--vector <n>', 'the vector', bounded('a vector', 0xff), 0x41)
    .addOption(new Option('--gate <setting>', '32-bit APIC IDs (USE_32BIT_IDS)').choices(['on', 'off']).default('off'))
    .option('--no-broadcast-quirk', 'as with DISABLE_BROADCAST_QUIRK')
    .addOption(
      new Option('--behaviour <rules>', 'by these rules, with each reason; default: all').choices([...BEHAVIOURS]),
    )
    .option('--break <rule>', 'with one rule switched off (apiary conform --break list)')
    .option('--json', 'the same for programs')
    .addHelpText('after', EXAMPLES);
}
