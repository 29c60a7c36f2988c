/**
 * This terminal as the guest's serial console, and the signals that end a run. On a terminal each key goes to the guest as
 * it is typed, apart from Ctrl-C, which ends the machine; the terminal's settings are put back whatever happens.
 */
import type { Machine } from '../machine/machine.ts';

const CTRL_C = 3;
const SIGNAL_STATUS = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;

/** @returns what gives the terminal back */
export function connectTerminal(machine: Machine): () => void {
  const { stdin } = process;
  const raw = stdin.isTTY;
  const end = (status: number): void => {
    void machine.stop(status);
  };
  // These stay: what ended the machine decides on the status, also if another signal comes before the process is gone.
  for (const [signal, status] of Object.entries(SIGNAL_STATUS)) process.on(signal, () => end(status));
  const restore = (): void => {
    if (raw) stdin.setRawMode(false);
  };
  const input = async (): Promise<void> => {
    for await (const chunk of stdin as AsyncIterable<Buffer>) {
      if (raw && chunk.includes(CTRL_C)) {
        end(SIGNAL_STATUS.SIGINT);
        return;
      }
      await machine.sendSerial(chunk);
    }
  };
  if (raw) stdin.setRawMode(true);
  process.on('exit', restore);
  input().catch(() => {}); // the run is over, or stdin cannot be read: the guest gets no more input
  return () => {
    process.off('exit', restore);
    restore();
    stdin.destroy();
  };
}
