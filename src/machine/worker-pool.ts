/**
 * The workers of a machine as main sees them: on threads, mostly (player.ts), which are taken early, since a new one needs 25 ms;
 * connected once the VM exists, spoken to by messages, and out of the machine for certain when `stop` resolves. They keep the
 * process alive only while somebody holds the pool: from its birth to the first `release`, while the machine runs, and while
 * an answer is awaited.
 */

import { MessageChannel, type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import type { BootState } from '../boot/index.ts';
import { ConfigError, HostError } from './errors.ts';
import { Inbox } from './inbox.ts';
import type { WorkerInspection } from './inspection.ts';
import type { Player } from './player.ts';
import type { FromWorker, MachineHandles, ToWorker } from './shared/messages.ts';
import { messageTaken } from './shared/outbox.ts';
import { Attention, MAX_WORKERS, MachineWord, type SharedState, WorkerWord } from './shared/shared.ts';
import { signalWorker, stopWorker } from './shared/signals.ts';
import { Thread } from './thread.ts';

/** A message that wants an answer, before it is numbered. */
export type Request = ToWorker extends infer M ? (M extends { reply: number } ? Omit<M, 'reply'> : never) : never;

interface Member {
  readonly player: Player;
  /** Main's end of the channel, and the worker's. */
  readonly port: MessagePort;
  readonly workerPort: MessagePort;
  /** Resolves when the player has no part in the machine any more; with true when another machine can have it. */
  readonly finished: Promise<boolean>;
}

interface Connection {
  readonly shared: SharedState;
  readonly handles: MachineHandles;
  /** @returns a promise when the message is not dealt with yet */
  readonly receive: (message: FromWorker) => Promise<unknown> | undefined;
  readonly failed: (detail: string) => void;
}

/** Nobody waits for the answer. */
const NO_REPLY = 0;
/** How long a worker that was told to stop may take before its thread is ended from outside. */
const STOP_GRACE_MS = 2000;
/** It is told again meanwhile: the kernel refuses a signal while the user's queue of them is full. */
const STOP_AGAIN_MS = 50;

export class WorkerPool {
  readonly #members: Member[] = [];
  readonly #players: (worker: number) => Player;
  readonly #inbox = new Inbox(
    (message) => this.#receive(message),
    (worker) => this.#connection && messageTaken(this.#connection.shared, worker),
  );
  readonly #waiting = new Map<
    number,
    { resolve: (value: WorkerInspection | undefined) => void; reject: (error: Error) => void }
  >();
  #connection: Connection | undefined;
  #boot: BootState | null | undefined;
  #nextReply = 1;
  #stopping = false;
  #isSandboxed = false;
  #holders = 1;
  /** Why a thread ended before the pool was connected. */
  #failure: string | undefined;

  constructor(workers: number, players: (worker: number) => Player = () => Thread.take()) {
    this.#players = players;
    try {
      for (let worker = 0; worker < workers; worker++) this.#spawn();
    } catch (error) {
      void this.stop(); // gives back those that there are
      throw error;
    }
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
    for (let worker = 0; worker < this.#members.length; worker++) this.#play(worker, handles);
  }

  /** The process must not end before `release` is called as often. */
  hold(): void {
    if (this.#holders++ === 0) for (const member of this.#members) keepAlive(member, true);
  }

  release(): void {
    if (--this.#holders === 0) for (const member of this.#members) keepAlive(member, false);
  }

  /** Adds a worker to a pool that is connected. @returns its number @throws ConfigError when the machine has ended */
  grow(): number {
    if (this.#stopping) throw new ConfigError('the machine has ended');
    if (this.#members.length >= MAX_WORKERS) throw new RangeError(`more than ${MAX_WORKERS} worker threads`);
    const worker = this.#spawn();
    this.#publishSize();
    if (this.#connection) this.#play(worker, this.#connection.handles);
    if (this.#isSandboxed) this.post(worker, { type: 'sandbox', reply: NO_REPLY });
    if (this.#boot !== undefined) this.post(worker, { type: 'start', boot: null });
    return worker;
  }

  /** Each thread by itself, once; those that come later as well. @throws HostError as `request` */
  async sandboxThreads(): Promise<void> {
    this.#isSandboxed = true;
    await this.requestAll({ type: 'sandbox' });
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
  async request(worker: number, request: Request): Promise<void> {
    await this.#ask(worker, request);
  }

  /** What the workers say of themselves: those that answer within `millis`. */
  async inspect(millis: number): Promise<WorkerInspection[]> {
    let timer: NodeJS.Timeout | undefined;
    const limit = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => resolve(undefined), millis);
    });
    const asked = this.#members.map((_, worker) => this.#ask(worker, { type: 'inspect' }).catch(() => undefined));
    const told = await Promise.all(asked.map((each) => Promise.race([each, limit])));
    clearTimeout(timer);
    return told.filter((each) => each !== undefined);
  }

  async #ask(worker: number, request: Request): Promise<WorkerInspection | undefined> {
    if (this.#stopping) throw new ConfigError('the machine has ended');
    const reply = this.#nextReply++;
    this.hold();
    try {
      return await new Promise((resolve, reject) => {
        this.#waiting.set(reply, { resolve, reject });
        this.post(worker, { ...request, reply } as ToWorker);
      });
    } finally {
      this.release();
    }
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

  /** No thread has a part in the machine any more when this resolves, and all that they said has been dealt with. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.hold(); // for good: given back, a thread holds nothing
    for (const { reject } of this.#waiting.values()) reject(new ConfigError('the machine has ended'));
    this.#waiting.clear();
    const shared = this.#connection?.shared;
    const reusable = await Promise.all(
      this.#members.map(({ player, finished }, worker) =>
        shared ? stopMember(shared, worker, player, finished) : true,
      ),
    );
    for (const [worker, { player, port, workerPort }] of this.#members.entries()) {
      this.#takeLeft(worker, port);
      port.close();
      workerPort.close();
      if (this.#isSandboxed) player.quit();
      else if (reusable[worker]) player.giveBack();
    }
    this.#inbox.close();
  }

  #spawn(): number {
    const worker = this.#members.length;
    const player = this.#players(worker);
    const { port1: port, port2: workerPort } = new MessageChannel();
    port.on('message', (message: FromWorker) => this.#inbox.put(worker, message));
    const finished = player.finished().then((failure) => {
      if (failure === undefined) return true;
      this.#takeLeft(worker, port); // its last words
      this.#failed(`worker ${worker}: ${failure}`);
      return false;
    });
    const member = { player, port, workerPort, finished };
    this.#members.push(member);
    if (this.#holders === 0) keepAlive(member, false);
    return worker;
  }

  #play(worker: number, handles: MachineHandles): void {
    const { player, workerPort } = this.#members[worker];
    player.play(worker, workerPort, handles);
  }

  /** A port and a thread's end reach this thread by different ways, in any order. */
  #takeLeft(worker: number, port: MessagePort): void {
    for (let item = receiveMessageOnPort(port); item; item = receiveMessageOnPort(port)) {
      this.#inbox.put(worker, item.message as FromWorker);
    }
  }

  #publishSize(): void {
    if (this.#connection) Atomics.store(this.#connection.shared.words, MachineWord.workers, this.#members.length);
  }

  #failed(detail: string): void {
    if (this.#stopping) return;
    this.#failure ??= detail;
    this.#connection?.failed(detail);
  }

  #receive(message: FromWorker): Promise<unknown> | undefined {
    if (message.type !== 'reply') return this.#connection?.receive(message);
    this.#settle(message);
    return undefined;
  }

  #settle(message: Extract<FromWorker, { type: 'reply' }>): void {
    const waiting = this.#waiting.get(message.reply);
    this.#waiting.delete(message.reply);
    if (message.error === undefined) waiting?.resolve(message.value);
    else waiting?.reject(new (message.error.host ? HostError : Error)(message.error.message));
  }
}

function keepAlive({ player, port }: Member, alive: boolean): void {
  player.keepAlive(alive);
  if (alive) port.ref();
  else port.unref();
}

/** @returns whether the player can be given back */
async function stopMember(
  shared: SharedState,
  worker: number,
  player: Player,
  finished: Promise<boolean>,
): Promise<boolean> {
  stopWorker(shared, worker);
  const again = setInterval(() => stopWorker(shared, worker), STOP_AGAIN_MS);
  const terminate = setTimeout(() => player.terminate(), STOP_GRACE_MS);
  try {
    return await finished;
  } finally {
    clearInterval(again);
    clearTimeout(terminate);
  }
}
