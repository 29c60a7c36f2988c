/**
 * Who is a worker of a machine, as the pool sees it: a thread (thread.ts), or main itself until there is one (opening.ts).
 * Main thread only.
 */
import type { MessagePort } from 'node:worker_threads';
import type { MachineConfig } from './options.ts';
import type { MachineHandles } from './shared/messages.ts';

export interface Player {
  /** A machine whose part `worker` it plays, to the machine's end. */
  play(worker: number, port: MessagePort, handles: MachineHandles): void;
  /** Resolves when the part is over: with nothing when it can be given back, else with why it is gone. */
  finished(): Promise<string | undefined>;
  /** Whether the process waits for it. */
  keepAlive(alive: boolean): void;
  /** It has no part in a machine any more. */
  giveBack(): void;
  /** Ends it from outside, in whatever it does. */
  terminate(): void;
  /** Ends it when it waits for a machine. */
  quit(): void;
}

/** Who is to be worker `worker` of a machine. @throws HostError when the host has nobody */
export type Players = (worker: number, config: MachineConfig) => Player;
