/**
 * `npm run lab`: runs a command on an emulated host with real KVM, where this machine has none or another kernel's.
 *
 *     npm run lab -- --host svm --kernel 6.12 -- npx apiary demo
 *     npm run lab -- --kernel 6.1 --timeout 300 -- 'uname -r; npx apiary conform --layer 1'
 *     npm run lab -- --host vmx -- npx apiary doctor
 *
 *     npm run lab -- --slice      what CI asks of a host
 *     npm run lab -- --matrix     the table of the README: demo and conform on every kernel
 *
 * The exit status is the command's; 124 when the time was over, 125 when the host died, 1 for a mistake.
 */
import { resolve } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { matrix, slice } from './campaigns.ts';
import type { HostOptions } from './host.ts';
import { passedOn } from './job.ts';
import { type HostKind, hostKernel, SERIES } from './kernel.ts';
import { forget, say } from './store.ts';
import { runOnSvmHost } from './svm-host.ts';
import { bochs, busybox, cdTools, qemu } from './tools.ts';
import { LabTrouble } from './trouble.ts';
import { runOnVmxHost } from './vmx-host.ts';

interface Options {
  readonly host: HostKind;
  readonly kernel: string;
  readonly modules?: string;
  readonly timeout: number;
  readonly cpus: number;
  readonly env: readonly string[];
  readonly writable: readonly string[];
  readonly file: readonly string[];
  readonly fetch?: boolean;
  readonly slice?: boolean;
  readonly matrix?: boolean;
  readonly seconds: number;
  readonly refresh?: boolean;
  readonly verbose?: boolean;
}

function count(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError('a whole number from 1.');
  return value;
}

const more = (text: string, before: readonly string[]): string[] => [...before, text];

async function lab(command: string[], options: Options): Promise<void> {
  if (options.refresh) forget();
  const { kernel, modules, host: kind } = options;
  if (options.fetch) {
    if (kind === 'svm') qemu();
    else for (const fetch of [bochs, cdTools]) fetch();
    hostKernel(kernel, { kind, busybox: busybox() });
    return;
  }
  if (options.slice) {
    process.exitCode = await slice(kernel);
    return;
  }
  if (options.matrix) {
    process.exitCode = await matrix(options.seconds);
    return;
  }
  if (command.length === 0) throw new LabTrouble('no command: npm run lab -- --kernel 6.12 -- COMMAND');
  if (kind === 'vmx' && options.writable.length > 0) {
    throw new LabTrouble(
      '--writable: a vmx host cannot see folders of this machine; let the command print what is to stay',
    );
  }
  const host: HostOptions = {
    kernel: hostKernel(kernel, { kind, busybox: busybox(), ...(modules === undefined ? {} : { modules }) }),
    job: {
      command,
      directory: process.cwd(),
      environment: passedOn(process.env, options.env),
      writable: options.writable.map((folder) => resolve(folder)),
    },
    timeoutSeconds: options.timeout,
    output: process.stdout,
    errors: process.stderr,
    verbose: options.verbose ?? false,
  };
  process.exitCode = await (kind === 'svm'
    ? runOnSvmHost({ ...host, cpus: options.cpus })
    : runOnVmxHost({ ...host, files: options.file.map((path) => resolve(path)) }));
}

const program = new Command('lab')
  .description('run a command on an emulated host with real KVM; the machine is seen as it is, and is not written to')
  .argument('[command...]', 'a command and its parameters, or one word with a script for sh')
  .addOption(
    new Option('--host <kind>', 'svm: AMD, by QEMU; vmx: Intel, by Bochs').choices(['svm', 'vmx']).default('svm'),
  )
  .option('--kernel <which>', `${Object.keys(SERIES).join(', ')}, a .deb, or a vmlinuz with --modules`, '6.12')
  .option('--modules <folder>', 'what /lib/modules has for a vmlinuz')
  .option('--timeout <seconds>', 'then the host is ended, status 124', count, 600)
  .option('--cpus <n>', 'on a svm host, for the command', count, 2)
  .option('--env <name>', 'a variable that the command sees as well', more, [])
  .option('--writable <folder>', 'what the command writes there stays', more, [])
  .option(
    '--file <path>',
    'what a vmx host is to have too: it does not see this machine, only Node and apiary',
    more,
    [],
  )
  .option('--fetch', 'only fetch what such a host needs')
  .option('--slice', "CI's part of it, in place of a command")
  .option('--matrix', 'demo and conform on every kernel, as a table, in place of a command')
  .option('--seconds <n>', 'how long each layer of the matrix looks', count, 60)
  .option('--refresh', 'fetch emulators and kernels again')
  .option('--verbose', "show the host's console too")
  .action((command: string[], options: Options) => lab(command, options));
try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof LabTrouble)) throw error;
  say(error.message);
  process.exitCode = 1;
}
