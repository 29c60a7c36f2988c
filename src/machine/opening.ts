/**
 * Worker 0 on main: a machine begins before any thread is there, since one takes longer to start than a small guest to run.
 * Main gives it turns of a few milliseconds, and looks after signals, timers and output between two. When the guest has run
 * for some time, or would sleep, a thread is started; once that has loaded its program, worker 0 moves there for good. A guest
 * whose run is over by then never needs one.
 *
 * For a process that is there for its machine (the command): the event loop of others is not ours to hold up.
 */
import type { MessagePort } from 'node:worker_threads';
import { native } from '../kvm/index.ts';
import { kvmVcpus, MachineWorker, type OpenVcpu } from './machine-worker.ts';
import type { MachineConfig } from './options.ts';
import type { Player, Players } from './player.ts';
import type { MachineHandles, MachinePart } from './shared/messages.ts';
import { LOAD_POLL_MILLIS, Thread } from './thread.ts';

/** The most that a guest takes of main's time at once. */
const TURN_NANOS = 2_000_000;
/** How much of it a guest gets before a thread is started, if it does not sleep: cold code runs for some of that. */
const OPENING_NANOS = 20_000_000;
/** V8 keeps something of each wait until its time is over, also of one that ended early. */
const SLEEP_MILLIS = 1000;

/** What else there can be in the place of KVM's vCPUs and of threads, for tests. */
export interface OpeningParts {
  readonly openVcpu?: (handles: MachineHandles) => OpenVcpu;
  /** @throws Error when the host has none */
  readonly takeThread?: () => Thread;
}

export class Opening implements Player {
  readonly #openVcpu: (handles: MachineHandles) => OpenVcpu;
  readonly #takeThread: () => Thread;
  /** The one that it moves to, once it is asked for. */
  #thread: Thread | undefined;
  #hasNoThread = false;
  #isAlive = true;
  #finish: (failure?: string) => void = () => {};
  readonly #finished = new Promise<string | undefined>((resolve) => {
    this.#finish = resolve;
  });

  constructor({ openVcpu, takeThread }: OpeningParts = {}) {
    this.#openVcpu = openVcpu ?? (({ runSize }) => kvmVcpus(runSize));
    this.#takeThread = takeThread ?? (() => Thread.take());
  }

  play(worker: number, port: MessagePort, handles: MachineHandles): void {
    this.#play({ worker, port, handles }).then(this.#finish, (error: unknown) => {
      this.#thread?.giveBack();
      this.#finish(error instanceof Error ? error.message : String(error));
    });
  }

  finished(): Promise<string | undefined> {
    return this.#finished;
  }

  keepAlive(alive: boolean): void {
    this.#isAlive = alive;
    this.#thread?.keepAlive(alive);
  }

  giveBack(): void {
    this.#thread?.giveBack();
  }

  /** Main is in no turn when it calls this. */
  terminate(): void {
    this.#thread?.terminate();
  }

  quit(): void {
    this.#thread?.quit();
  }

  /** @returns as `finished` */
  async #play(part: MachinePart): Promise<string | undefined> {
    const worker = new MachineWorker(part, { openVcpu: this.#openVcpu(part.handles), inTurns: true });
    try {
      return await this.#giveTurns(worker, part);
    } catch (error) {
      worker.close(); // says what the guest has said
      throw error;
    }
  }

  async #giveTurns(worker: MachineWorker, part: MachinePart): Promise<string | undefined> {
    const { words } = worker.shared;
    for (let used = 0; ; ) {
      const begin = native.nowNanos();
      const sleep = worker.turn(begin + TURN_NANOS);
      if (worker.isOver) {
        worker.close();
        return undefined;
      }
      if (worker.hasRun) used += native.nowNanos() - begin;
      if (used > OPENING_NANOS || (used > 0 && sleep)) this.#startThread();
      const thread = this.#thread;
      if (thread?.isLoaded === true) {
        thread.play(part.worker, part.port, part.handles, worker.handOver());
        return thread.finished();
      }
      const limit = thread ? LOAD_POLL_MILLIS : SLEEP_MILLIS;
      const wait = sleep && Atomics.waitAsync(words, sleep.index, sleep.value, Math.min(sleep.millis, limit));
      // A wait that is over at once is no reason to keep signals, timers and output waiting.
      await (wait?.async === true ? wait.value : new Promise((resolve) => setImmediate(resolve)));
    }
  }

  /** Where the host has no thread, the machine stays here. */
  #startThread(): void {
    if (this.#thread?.hasEnded === true) {
      this.#thread = undefined;
      this.#hasNoThread = true;
    }
    if (this.#thread || this.#hasNoThread) return;
    try {
      this.#thread = this.#takeThread();
      this.#thread.keepAlive(this.#isAlive);
    } catch {
      this.#hasNoThread = true;
    }
  }
}

/** Opens what is simple: a thread is a must for what comes before the guest (modules, a sandbox), and where a halted CPU blocks it. */
const canOpen = ({ apic, sandbox, trace, devices, script }: MachineConfig): boolean =>
  apic === 'user' && sandbox === 'off' && !trace && devices.length === 0 && script === null;

/** Worker 0 begins on main, the others on threads. */
export const withOpening: Players = (worker, config) =>
  worker === 0 && canOpen(config) ? new Opening() : Thread.take();
