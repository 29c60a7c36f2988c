/**
 * The worker threads of a machine as main sees them: started early (a thread needs 25 ms), connected once the VM exists,
 * spoken to by messages, and gone for certain when `stop` resolves.
 */
import { type MessagePort, receiveMessageOnPort, type Worker } from 'node:worker_threads';
import type { BootState } from '../boot/index.ts';
import { ConfigError, HostError } from './errors.ts';
import type { FromWorker, MachineHandles, ToWorker } from './shared/messages.ts';
import { messageTaken } from './shared/outbox.ts';
import { Attention, MAX_WORKERS, MachineWord, type SharedState, WorkerWord } from './shared/shared.ts';
import { signalWorker, stopWorker } from './shared/signals.ts';
import { takeThread } from './thread.ts';

/** A message that wants an answer, before it is numbered. */
export type Request = ToWorker extends infer M ? (M extends { reply: number } ? Omit<M, 'reply'> : never) : never;

interface Member {
  readonly thread: Worker;
  readonly port: MessagePort;
  readonly exited: Promise<void>;
}

interface Connection {
  readonly shared: SharedState;
  readonly handles: MachineHandles;
  readonly receive: (message: FromWorker) => void;
  readonly failed: (detail: string) => void;
}

/** How long a worker that was told to stop may take before its thread is ended from outside. */
const STOP_GRACE_MS = 2000;

export class WorkerPool {
  readonly #members: Member[] = [];
  readonly #waiting = new Map<number, { resolve: () => void; reject: (error: Error) => void }>();
  #connection: Connection | undefined;
  #boot: BootState | null | undefined;
  #nextReply = 1;
  #stopping = false;
  /** Why a thread ended before the pool was connected. */
  #failure: string | undefined;

  constructor(workers: number) {
    for (let worker = 0; worker < workers; worker++) this.#spawn();
  }

  get size(): number {
    return this.#members.length;
  }

  connect(
    shared: SharedState,
    handles: MachineHandles,
    receive: Connection['receive'],
    failed: Connection['failed'],
  ): void {
    this.#connection = { shared, handles, receive, failed };
    this.#publishSize();
    if (this.#failure !== undefined) failed(this.#failure);
    for (let worker = 0; worker < this.#members.length; worker++) this.post(worker, { type: 'machine', handles });
  }

  /** Adds a worker to a pool that is connected. @returns its number @throws ConfigError when the machine has ended */
  grow(): number {
    if (this.#stopping) throw new ConfigError('the machine has ended');
    if (this.#members.length >= MAX_WORKERS) throw new RangeError(`more than ${MAX_WORKERS} worker threads`);
    const worker = this.#spawn();
    this.#publishSize();
    if (this.#connection) this.post(worker, { type: 'machine', handles: this.#connection.handles });
    if (this.#boot !== undefined) this.post(worker, { type: 'start', boot: null });
    return worker;
  }

  /** Lets every worker run its vCPUs; the boot CPU is on worker 0. */
  start(boot: BootState): void {
    this.#boot = boot;
    for (let worker = 0; worker < this.#members.length; worker++) {
      this.post(worker, { type: 'start', boot: worker === 0 ? boot : null });
    }
  }

  post(worker: number, message: ToWorker): void {
    this.#members[worker]?.port.postMessage(message);
    if (this.#connection) signalWorker(this.#connection.shared, worker, Attention.control);
  }

  /** @throws HostError or Error with the worker's words when it could not do it; ConfigError when the machine ended first */
  request(worker: number, request: Request): Promise<void> {
    const reply = this.#nextReply++;
    return new Promise((resolve, reject) => {
      if (this.#stopping) {
        reject(new ConfigError('the machine has ended'));
        return;
      }
      this.#waiting.set(reply, { resolve, reject });
      this.post(worker, { ...request, reply } as ToWorker);
    });
  }

  /** The same of every worker; resolves when all have done it. */
  async requestAll(request: Request): Promise<void> {
    await Promise.all(this.#members.map((_, worker) => this.request(worker, request)));
  }

  /** Keeps a worker out of KVM_RUN while `action` uses a descriptor of its vCPU. */
  whilePaused<T>(worker: number, action: () => T): T {
    const shared = this.#connection?.shared;
    if (!shared) return action();
    const pause = shared.worker(worker, WorkerWord.pause);
    Atomics.store(shared.words, pause, 1);
    signalWorker(shared, worker, Attention.pause);
    try {
      return action();
    } finally {
      Atomics.store(shared.words, pause, 0);
      Atomics.notify(shared.words, pause);
    }
  }

  /** Every thread is gone when this resolves. */
  async stop(): Promise<void> {
    this.#stopping = true;
    for (const { reject } of this.#waiting.values()) reject(new ConfigError('the machine has ended'));
    this.#waiting.clear();
    await Promise.all(
      this.#members.map(async ({ thread, port, exited }, worker) => {
        if (this.#connection) stopWorker(this.#connection.shared, worker);
        else port.postMessage({ type: 'quit' } satisfies ToWorker); // terminate() while it loads leaks what it has open
        const timer = setTimeout(() => void thread.terminate(), STOP_GRACE_MS);
        await exited;
        clearTimeout(timer);
        port.close();
      }),
    );
  }

  #spawn(): number {
    const worker = this.#members.length;
    const { thread, port } = takeThread(worker);
    thread.on('error', (error: Error) => this.#failed(`worker ${worker}: ${error.message}`));
    port.on('message', (message: FromWorker) => this.#receive(worker, message));
    const exited = new Promise<void>((resolve) => {
      thread.once('exit', (code) => {
        // Its last words: the port and the thread's end reach this thread by different ways, in any order.
        for (let item = receiveMessageOnPort(port); item; item = receiveMessageOnPort(port)) {
          this.#receive(worker, item.message as FromWorker);
        }
        this.#failed(`worker ${worker} ended by itself with code ${code}`);
        resolve();
      });
    });
    this.#members.push({ thread, port, exited });
    return worker;
  }

  #publishSize(): void {
    if (this.#connection) Atomics.store(this.#connection.shared.words, MachineWord.workers, this.#members.length);
  }

  #failed(detail: string): void {
    if (this.#stopping) return;
    this.#failure ??= detail;
    this.#connection?.failed(detail);
  }

  #receive(worker: number, message: FromWorker): void {
    try {
      if (message.type === 'reply') this.#settle(message);
      else this.#connection?.receive(message);
    } finally {
      if (this.#connection) messageTaken(this.#connection.shared, worker);
    }
  }

  #settle(message: Extract<FromWorker, { type: 'reply' }>): void {
    const waiting = this.#waiting.get(message.reply);
    this.#waiting.delete(message.reply);
    if (message.error === undefined) waiting?.resolve();
    else waiting?.reject(new (message.error.host ? HostError : Error)(message.error.message));
  }
}
