/** `apiary run`: one guest, its serial port on this terminal, its exit status as ours. */
import { hex } from '../hex.ts';
import { ConfigError } from '../machine/errors.ts';
import { Machine } from '../machine/machine.ts';
import type { RunResult } from '../machine/machine-events.ts';
import { withOpening } from '../machine/opening.ts';
import { Status } from '../machine/status.ts';
import type { TraceEvent } from '../machine/trace.ts';
import { printable } from '../printable.ts';
import { keepCode } from '../start/keep-code.ts';
import { describeBiosCall } from './bios-call.ts';
import { cannotPrint, LAST_WORDS_MILLIS } from './failures.ts';
import { errors, hurry, output } from './output.ts';
import { bootOptions, type HotplugAction, hotplugActions, machineOptions, type RunOptions } from './run-options.ts';
import { connectTerminal } from './terminal.ts';

export async function run(image: string, options: RunOptions): Promise<number> {
  checkActions(options.cpus.cpus, hotplugActions);
  let warnings: readonly string[] = [];
  const machine = await Machine.create(
    { ...machineOptions(options, hotplugActions), players: withOpening },
    async (created) => {
      ({ warnings } = await created.load(image, bootOptions(options)));
    },
  );
  const undo: (() => void)[] = [];
  let result: RunResult;
  let failure: Error | undefined;
  let view: View | undefined;
  const fail = (error: Error): void => {
    failure ??= error;
    void machine.stop();
  };
  try {
    for (const warning of warnings) void errors.write(`apiary: warning: ${warning}\n`);
    if (options.trace !== undefined) undo.push(await traceTo(options.trace, options.traceLimit, machine, fail));
    view = await viewOf(machine, options);
    const tell = teller(view);
    connectOutput(machine, view, fail);
    machine.on('debugOutput', tell);
    machine.once('biosCall', (vector, ax) => void tell(`apiary: warning: ${describeBiosCall(vector, ax)}\n`));
    // Of a mistaken command too little is compiled; a sandboxed process can write no file.
    if (options.sandbox !== true) machine.once('firstRun', () => process.once('exit', keepCode));
    undo.push(connectTerminal(machine, tell));
    const running = machine.run();
    // The guest may end before everything is carried out: what is left of it then fails, and does not matter.
    const acting = carryOut(machine, hotplugActions).catch((error: unknown) => {
      if (!machine.ended) throw error;
    });
    result = await Promise.race([running, acting.then(() => running)]);
  } finally {
    await machine.stop();
    for (const each of undo.reverse()) each();
    view?.close();
  }
  if (!showsScreen(options)) showScreen(machine.screen());
  if (failure) throw failure;
  return reportEnd(result);
}

/** A live view, which the guest's output stands above where it goes to the same terminal. */
interface View {
  print(chunk: Buffer | string): Promise<void>;
  close(): void;
}

/** Without a terminal on stdout `--vga` is what happens anyway: the screen is shown at the end. */
const showsScreen = ({ vga }: RunOptions): boolean => vga === true && process.stdout.isTTY;

/** @throws ConfigError for `--watch` where stderr is no terminal */
async function viewOf(machine: Machine, options: RunOptions): Promise<View | undefined> {
  if (showsScreen(options)) return new (await import('./vga.ts')).Vga(machine);
  return options.watch === true ? new (await import('./watch.ts')).Watch(machine) : undefined;
}

/** What goes to stderr while the guest runs: above the live view where there is one on that terminal. */
function teller(view: View | undefined): (text: Buffer | string) => Promise<void> {
  return view && process.stderr.isTTY ? (text) => view.print(text) : (text) => errors.write(text);
}

async function traceTo(
  path: string,
  maxBytes: number,
  machine: Machine,
  fail: (error: Error) => void,
): Promise<() => void> {
  const idOf = (vcpuIndex: number): number | undefined => machine.apicIdOf(vcpuIndex);
  const nameOf = (vcpuIndex: number): string => `CPU ${hex(idOf(vcpuIndex) ?? vcpuIndex)}`;
  const full = (): void => {
    machine.off('trace', write);
    void errors.write(`apiary: ${printable(path)} is full (${maxBytes} bytes); --trace-limit gives it more\n`);
  };
  const trace = path.endsWith('.svg')
    ? new (await import('../trace/chart-file.ts')).ChartFile(path, nameOf, fail)
    : new (await import('../trace/trace-file.ts')).TraceFile(path, { apicIdOf: idOf, failed: fail, maxBytes, full });
  const write = (event: TraceEvent): void => trace.write(event);
  machine.on('trace', write);
  return () => trace.close();
}

/** The guest's output is ours, and the guest waits for whoever reads it. */
function connectOutput(machine: Machine, live: View | undefined, fail: (error: Error) => void): void {
  output.onFailure((error) => {
    if (error.code === 'EPIPE') void machine.stop(Status.outputGone);
    else fail(cannotPrint(error));
  });
  const view = process.stdout.isTTY ? live : undefined;
  machine.on('serial', (chunk) => (view ? view.print(chunk) : output.write(chunk)));
  machine.once('exit', ({ reason }) => {
    if (reason === 'timeout' || reason === 'stopped') hurry(LAST_WORDS_MILLIS);
  });
}

/** On stderr: stdout is the serial port's. */
function showScreen(text: string): void {
  if (text !== '') void errors.write(`apiary: the guest's screen at the end:\n${text}\n`);
}

const indent = (text: string): string => text.replaceAll(/^/gm, '  ').concat('\n');

/** Why it ended, on stderr, unless the guest ended it. */
function reportEnd(result: RunResult): number {
  const { reason, status, detail } = result;
  if (reason === 'timeout') void errors.write('apiary: the guest ran longer than --timeout allows\n');
  if (detail !== undefined) void errors.write(reason === 'timeout' ? indent(detail) : `apiary: ${detail}\n`);
  return status;
}

/** @throws ConfigError for a CPU that will be there already, or will not be there, when its turn comes */
function checkActions(cpus: readonly number[], actions: readonly HotplugAction[]): void {
  const present = new Set(cpus);
  for (const { kind, apicId } of actions) {
    if (kind === 'hotplug') {
      if (present.has(apicId)) throw new ConfigError(`--hotplug ${hex(apicId)}: that CPU is there; --unplug it first`);
      present.add(apicId);
    } else {
      if (!present.has(apicId))
        throw new ConfigError(`--unplug ${hex(apicId)}: that CPU is not there; --hotplug it first`);
      if (apicId === cpus[0]) throw new ConfigError(`--unplug ${hex(apicId)}: the boot CPU cannot be unplugged`);
      present.delete(apicId);
    }
  }
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
