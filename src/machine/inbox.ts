/**
 * What the workers say, on main: taken in small portions, since a guest can make its workers talk faster than main listens.
 * Node hands over a thousand messages of a port in one turn of its event loop, and timers and signals wait meanwhile; so
 * here they are only queued (outbox.ts limits how many there can be), and each turn deals with as many as a few milliseconds
 * allow. A message whose handler answers with a promise holds its worker's later ones back until that is settled.
 */
import { nowMillis } from './millis.ts';
import type { FromWorker } from './shared/messages.ts';

/** The most that a turn of the event loop spends here, one message's time aside. */
const TURN_MILLIS = 8;
/** What is left at the end has this long; the rest is dropped. It can only be events of a flood. */
const LAST_MILLIS = 300;

/** @returns a promise when the message is not dealt with yet */
type Handler = (message: FromWorker) => Promise<unknown> | undefined;

interface Queue {
  readonly messages: FromWorker[];
  /** A message is not dealt with yet. */
  waiting: boolean;
}

export class Inbox {
  readonly #handle: Handler;
  readonly #taken: (worker: number) => void;
  readonly #queues = new Map<number, Queue>();
  #scheduled = false;
  #closed = false;

  /** @param taken told when a message of a worker has been dealt with */
  constructor(handle: Handler, taken: (worker: number) => void) {
    this.#handle = handle;
    this.#taken = taken;
  }

  put(worker: number, message: FromWorker): void {
    if (this.#closed) return;
    const queue = this.#queues.get(worker) ?? { messages: [], waiting: false };
    queue.messages.push(message);
    this.#queues.set(worker, queue);
    this.#schedule();
  }

  /** The workers have ended: deals with what is there, without waiting for anybody, and takes no more. */
  close(): void {
    const end = nowMillis() + LAST_MILLIS;
    for (const [worker, queue] of this.#queues) {
      queue.waiting = false;
      while (queue.messages.length > 0 && nowMillis() < end) {
        this.#next(worker, queue);
        queue.waiting = false;
      }
    }
    this.#closed = true;
    this.#queues.clear();
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#turn();
    });
  }

  /** One message of each worker after the other's, until nobody has one or the time is up. */
  #turn(): void {
    const end = nowMillis() + TURN_MILLIS;
    try {
      for (let busy = true; busy && nowMillis() < end; ) {
        busy = false;
        for (const [worker, queue] of this.#queues) {
          if (queue.waiting || queue.messages.length === 0) continue;
          busy = true;
          this.#next(worker, queue);
          if (nowMillis() >= end) break;
        }
      }
    } finally {
      if ([...this.#queues.values()].some(({ waiting, messages }) => !waiting && messages.length > 0)) this.#schedule();
    }
  }

  #next(worker: number, queue: Queue): void {
    const message = queue.messages.shift();
    if (message === undefined) return;
    let settled: Promise<unknown> | undefined;
    try {
      settled = this.#handle(message);
    } finally {
      if (settled === undefined) this.#taken(worker); // also when a listener threw
    }
    if (settled === undefined) return;
    queue.waiting = true;
    const goOn = (): void => {
      this.#taken(worker);
      queue.waiting = false;
      this.#schedule();
    };
    settled.then(goOn, goOn);
  }
}
