/**
 * This terminal as the guest's serial console, and the signals that end a run. On a terminal each key goes to the guest as
 * it is typed (keys.ts has the escapes); the terminal's settings are put back whatever happens.
 */
import { isatty } from 'node:tty';
import { describeMachine } from '../inspect/report.ts';
import type { Machine } from '../machine/machine.ts';
import { Status } from '../machine/status.ts';
import { KEYS_HELP, Keys } from './keys.ts';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
/** What a guest that does not read its serial port is behind by, at most; what is typed after that is lost. */
const MAX_TYPED_AHEAD = 4096;

type Tell = (text: string) => Promise<void>;

/** @param tell writes to stderr. @returns what gives the terminal back */
export function connectTerminal(machine: Machine, tell: Tell): () => void {
  const end = (): void => {
    void machine.stop(Status.interrupted);
  };
  // These stay: what ended the machine decides on the status, also if another signal comes before the process is gone.
  for (const signal of SIGNALS) process.on(signal, end);
  process.on('SIGQUIT', () => void explain(machine, tell));
  let isOver = false;
  let disconnect = (): void => {};
  const connect = (): void => {
    if (isOver || machine.ended) return;
    try {
      disconnect = connectInput(machine, end, tell);
    } catch (error) {
      void tell(`apiary: this terminal cannot be the guest's: ${(error as Error).message}; without one: </dev/null\n`);
      void machine.stop(Status.host);
    }
  };
  // A terminal is the guest's before that says anything. Anything else waits until it has run: stdin takes 3 ms to load.
  if (isatty(0)) connect();
  else machine.once('firstRun', () => setImmediate(connect));
  return () => {
    isOver = true;
    disconnect();
  };
}

/** @returns what gives the terminal back */
function connectInput(machine: Machine, end: () => void, tell: Tell): () => void {
  const { stdin } = process;
  if (!stdin.isTTY) {
    pipeTo(machine, stdin).catch(() => {}); // the run is over, or stdin cannot be read: the guest gets no more input
    return () => stdin.destroy();
  }
  const restore = (): void => void stdin.setRawMode(false);
  process.on('exit', restore);
  stdin.setRawMode(true);
  stdin.on('data', typing(machine, end, tell)).on('error', () => {});
  return () => {
    process.off('exit', restore);
    restore();
    stdin.destroy();
  };
}

/** What each CPU does, on stderr; the run goes on. */
async function explain(machine: Machine, tell: Tell): Promise<void> {
  const report = describeMachine(await machine.inspect());
  await tell(`apiary: the machine now:\n  ${report.join('\n  ')}\n`);
}

async function pipeTo(machine: Machine, stdin: AsyncIterable<Buffer>): Promise<void> {
  for await (const chunk of stdin) await machine.sendSerial(chunk);
}

/** Looks at each key at once, also while the guest has not taken the last one. */
function typing(machine: Machine, end: () => void, tell: Tell): (chunk: Buffer) => void {
  const keys = new Keys();
  let ahead = 0;
  return (chunk) => {
    const typed = keys.take(chunk);
    if (typed.help) void tell(`\r\n${KEYS_HELP}\r\n`);
    if (typed.end) {
      end();
      return;
    }
    const bytes = typed.bytes.subarray(0, MAX_TYPED_AHEAD - ahead);
    if (bytes.length === 0) return;
    ahead += bytes.length;
    const taken = (): void => {
      ahead -= bytes.length;
    };
    machine.sendSerial(bytes).then(taken, taken);
  };
}
