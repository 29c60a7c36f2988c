/** `apiary run`: one guest, its serial port on this terminal, its exit status as ours. */
import { Machine, type RunResult } from '../machine/machine.ts';
import { bootOptions, type HotplugAction, hotplugActions, machineOptions, type RunOptions } from './run-options.ts';
import { connectTerminal } from './terminal.ts';
import { TraceFile } from './trace-file.ts';

export async function run(image: string, options: RunOptions): Promise<number> {
  const trace = options.trace === undefined ? undefined : new TraceFile(options.trace);
  const machine = await Machine.create(machineOptions(options, hotplugActions));
  let disconnect = (): void => {};
  try {
    await machine.load(image, bootOptions(options));
    machine.on('serial', (chunk) => process.stdout.write(chunk));
    if (trace) machine.on('trace', (event) => trace.write(event));
    trace?.nameCpus(machine.cpus);
    disconnect = connectTerminal(machine);
    const running = machine.run();
    const acting = carryOut(machine, hotplugActions);
    const result = await Promise.race([running, acting.then(() => running)]);
    return reportEnd(result);
  } finally {
    disconnect();
    await machine.stop();
    await trace?.close();
  }
}

/** Why it ended, on stderr, unless the guest ended it. */
function reportEnd(result: RunResult): number {
  const { reason, status, detail } = result;
  if (detail !== undefined) process.stderr.write(`apiary: ${detail}\n`);
  else if (reason === 'timeout') process.stderr.write('apiary: the guest ran longer than --timeout allows\n');
  return status;
}

/**
 * Plugs and unplugs in the order asked for. What concerns a CPU waits until the guest has dealt with the last thing that
 * did: an unplug for the report that the CPU is up (ACPI _OST), a return for the ejection.
 */
async function carryOut(machine: Machine, actions: readonly HotplugAction[]): Promise<void> {
  const settled = new Map<number, Promise<void>>();
  for (const { kind, apicId } of actions) {
    await settled.get(apicId);
    settled.set(apicId, kind === 'hotplug' ? whenInserted(machine, apicId) : whenEjected(machine, apicId));
    await machine[kind](apicId);
  }
}

const OST_INSERTION = 1;

function whenInserted(machine: Machine, wanted: number): Promise<void> {
  return new Promise((resolve) => {
    machine.on('ost', (apicId, event) => {
      if (apicId === wanted && event === OST_INSERTION) resolve();
    });
  });
}

function whenEjected(machine: Machine, wanted: number): Promise<void> {
  return new Promise((resolve) => {
    machine.on('ejected', (apicId) => {
      if (apicId === wanted) resolve();
    });
  });
}
