/**
 * Threads for workers, kept from one machine to the next. One takes 25 ms to boot and some more to load its program (bundled, as
 * the `apiary` command has it; 30 ms as modules), and koffi never gives back what it took for one, so a thread whose
 * machine is over waits for another. Nobody waits for it: a process may end meanwhile, and it ends by itself after a while.
 * Main thread only.
 */
import type { MessagePort, Worker } from 'node:worker_threads';
import { nowMillis } from './millis.ts';
import type { Player } from './player.ts';
import type { FromThread, Handover, MachineHandles, ToThread } from './shared/messages.ts';
import { takeThread } from './spare-thread.ts';

/** How often to look whether one that starts has loaded its program. */
export const LOAD_POLL_MILLIS = 2;
/** How long a thread without a machine is kept. */
const IDLE_MILLIS = 10_000;

/** Without a machine, the one that has waited longest first. */
const idle: Thread[] = [];
let sweeper: NodeJS.Timeout | undefined;

export class Thread implements Player {
  readonly #worker: Worker;
  readonly #loaded: Int32Array<SharedArrayBuffer>;
  #idleSince = 0;
  /** What ends the machine's part, and what is said when the thread does not survive it. */
  #finished: ((failure?: string) => void) | undefined;
  /** Why, once it has. */
  #ended: string | undefined;

  private constructor() {
    const { worker, loaded, ended } = takeThread();
    this.#worker = worker;
    this.#loaded = loaded;
    this.#worker.on('message', (_: FromThread) => this.#finish());
    void ended.then((why) => {
      this.#ended = why;
      if (idle.includes(this)) idle.splice(idle.indexOf(this), 1);
      this.#finish(why);
    });
  }

  /** One that waits, or a new one. It keeps the process alive until it is given back. */
  static take(): Thread {
    const thread = idle.pop() ?? new Thread();
    thread.#worker.ref();
    return thread;
  }

  /** At least so many that wait, with their program loaded. */
  static async reserve(count: number): Promise<void> {
    while (idle.length < count) new Thread().giveBack();
    while (idle.some((thread) => !thread.isLoaded)) {
      await new Promise((resolve) => setTimeout(resolve, LOAD_POLL_MILLIS));
    }
  }

  /** Whether it would begin at once. */
  get isLoaded(): boolean {
    return this.#ended === undefined && this.#loaded[0] !== 0;
  }

  /** It can play nothing any more. */
  get hasEnded(): boolean {
    return this.#ended !== undefined;
  }

  /** @param handover what the worker was where it comes from */
  play(worker: number, port: MessagePort, handles: MachineHandles, handover?: Handover): void {
    const part = { worker, port, handles, ...(handover === undefined ? {} : { handover }) };
    this.#worker.postMessage({ type: 'machine', ...part } satisfies ToThread, [port]);
  }

  finished(): Promise<string | undefined> {
    if (this.#ended !== undefined) return Promise.resolve(this.#ended);
    return new Promise((resolve) => {
      this.#finished = resolve;
    });
  }

  keepAlive(alive: boolean): void {
    if (alive) this.#worker.ref();
    else this.#worker.unref();
  }

  giveBack(): void {
    if (this.#ended !== undefined) return;
    this.#finished = undefined;
    this.#worker.unref();
    this.#idleSince = nowMillis();
    idle.push(this);
    sweeper ??= setInterval(sweep, IDLE_MILLIS / 2).unref();
  }

  terminate(): void {
    void this.#worker.terminate();
  }

  get hasWaitedLong(): boolean {
    return nowMillis() - this.#idleSince >= IDLE_MILLIS;
  }

  /** terminate() would leak what it has open. */
  quit(): void {
    this.#worker.postMessage({ type: 'quit' } satisfies ToThread);
  }

  #finish(failure?: string): void {
    const finished = this.#finished;
    this.#finished = undefined;
    finished?.(failure);
  }
}

function sweep(): void {
  for (let oldest = idle[0]; oldest?.hasWaitedLong; oldest = idle[0]) {
    idle.shift();
    oldest.quit();
  }
  if (idle.length > 0) return;
  clearInterval(sweeper);
  sweeper = undefined;
}
