/** The built command with guests that are scripts (test/unit/machine/scripts), so that it runs without KVM. */
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const COMMAND = fileURLToPath(new URL('../../../dist/cli/main.js', import.meta.url));
/** Scripts for `--script` and the option `script`: their URL and `?name`. */
export const GUESTS = new URL('../machine/scripts/guests.mjs', import.meta.url).href;
/** Any image will do: nobody executes it. */
const IMAGE = fileURLToPath(new URL('../machine/scripts/guests.mjs', import.meta.url));

/** Far beyond what any of these runs should take, also on a host that is busy. */
const HANGS_MS = 25_000;

export interface Ended {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** What a live view steers the terminal by: begin and end of a frame, cursor up, down and to the left, erase. */
export const DRAWING = new RegExp(`${'\x1b'}\\[(\\?2026[hl]|\\d*[ABGK])`, 'g');

/** Everything until the end. */
export async function textOf(stream: ChildProcess['stdout']): Promise<string> {
  let text = '';
  for await (const chunk of stream ?? []) text += chunk;
  return text;
}

/** The command line that runs a guest of test/unit/machine/scripts. */
export const scriptCommand = (guest: string, parameters: readonly string[] = []): string[] => [
  process.execPath,
  ...[COMMAND, 'run', IMAGE, '--load-address', '0x1000', '--script', `${GUESTS}?${guest}`],
  ...parameters,
];

/** @param stdio as spawn's; killed (signal SIGKILL) when it hangs */
export function runScript(
  guest: string,
  parameters: readonly string[] = [],
  options: SpawnOptions = {},
): { readonly child: ChildProcess; readonly ended: Promise<Ended> } {
  const [node, ...command] = scriptCommand(guest, parameters);
  const child = spawn(node, command, {
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: HANGS_MS,
    killSignal: 'SIGKILL',
    ...options,
  });
  const ended = new Promise<Ended>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (status, signal) => resolve({ status, signal }));
  });
  return { child, ended };
}
