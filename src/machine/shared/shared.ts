/**
 * The machine's own shared memory: what a sender on one thread must know of a vCPU on another (the local APICs and their
 * map have a memory of their own, src/apic/layout.ts). Every view of it is made here.
 *
 *   +----------------------+-----------------------------+---------------------+--------------------------------+
 *   | the machine: 64 bytes| one 64-byte line per worker | 4 words per vCPU    | ready bits: one row per worker |
 *   +----------------------+-----------------------------+---------------------+--------------------------------+
 *
 *   word of the machine written by                        read by
 *   picInterrupt       worker 0: store                    vCPUs whose LINT0 takes ExtINT, before they enter the guest
 *   workers            main: store, before they start     worker 0: whose mailboxes to look at
 *   screenStart        worker 0: store                    main, when it looks at the text page
 *
 *   word of a worker   written by                         read by
 *   attention          anyone: or; owner: exchange 0      owner before each KVM_RUN; it sleeps on this word
 *   guest              owner: store                       senders: is a kick needed?
 *   threadId           owner, when it comes to a thread   senders (tgkill)
 *   boxState..valueHigh  a device request of this worker to worker 0 (mailbox.ts): owner fills, worker 0 answers
 *   pause              main: store; owner sleeps on it    owner
 *   backlog            owner: add; main: sub              owner sleeps on it while main is behind (outbox.ts)
 *
 *   word of a vCPU     written by                         read by
 *   home               main, before the vCPU exists       senders
 *   request            senders: store 1; owner: store 0   owner, after it published `guest`
 *   runState           owner                              main (snapshots), worker 0 (is everybody halted for good?)
 *   changes            owner: how often it published      worker 0, the same
 *                      runState, before it does
 *
 *   ready bit v of row w: vCPU v, home on w, may have something to do. Senders set it (or), the owner clears it and then
 *   looks at `request` once more.
 *
 * No wake-up is lost, since both sides publish before they look. Owner: clear `request`, evaluate the APIC, store `guest`,
 * then load `request` and `attention`. Sender: set the APIC's bits, store `request`, set the ready bit, then load `guest`.
 * Atomics are sequentially consistent, so at least one of the two sees the other.
 */
import type { HostThread } from './host-thread.ts';

export const MAX_WORKERS = 1024;
const MACHINE_WORDS = 16;
const WORKER_WORDS = 16;
const VCPU_WORDS = 4;

/** Offsets of the words of a worker's line. */
export const WorkerWord = {
  attention: 0,
  guest: 1,
  threadId: 2,
  boxState: 3,
  operation: 4,
  addressLow: 5,
  addressHigh: 6,
  size: 7,
  valueLow: 8,
  valueHigh: 9,
  pause: 10,
  backlog: 11,
} as const;

/** Offsets of the machine's words: the level of the PICs' INTR output, the number of workers, where the VGA's picture begins. */
export const MachineWord = { picInterrupt: 0, workers: 1, screenStart: 2 } as const;

const VcpuWord = { home: 0, request: 1, runState: 2, changes: 3 } as const;

/** Bits of the attention word: why a worker should look up from its vCPU. */
export const Attention = {
  /** A vCPU that was not ready became ready. */
  reschedule: 1,
  /** The control port has a message. */
  control: 2,
  /** Worker 0 only: a mailbox holds a request. */
  mailbox: 4,
  /** Leave the run loop for good; stays set. */
  stop: 8,
  /** Stay out of KVM_RUN while `pause` is set. */
  pause: 16,
} as const;

/** Values of the guest word below the vCPU codes, see `guestCode`. */
export const GUEST_NONE = 0;
export const GUEST_IDLE = -1;

/**
 * What a vCPU is doing, as its home worker last published it. With KVM's own APICs all but `parked` is `running`: KVM waits
 * inside KVM_RUN.
 */
export const RunState = {
  absent: 0,
  waitForSipi: 1,
  running: 2,
  halted: 3,
  /** Out of the machine by hot-removal. */
  parked: 4,
  /** Halted with RFLAGS.IF clear: no interrupt ends it. */
  haltedWithoutIf: 5,
} as const;
export type RunState = (typeof RunState)[keyof typeof RunState];

/** What people and traces call them. A vCPU that was never seen is as good as parked. */
export const RUN_STATE_NAME = ['parked', 'waiting for SIPI', 'running', 'halted', 'parked', 'halted'] as const;

/** @returns the guest word of a worker that runs `vcpuIndex`; `sliced` tells that a timer will end the run anyway. */
export function guestCode(vcpuIndex: number, sliced: boolean): number {
  return ((vcpuIndex + 1) << 1) | (sliced ? 1 : 0);
}

/** One view of it for each thread. */
export class SharedState {
  /** How this thread kicks others and sleeps. */
  readonly host: HostThread;
  readonly buffer: SharedArrayBuffer;
  readonly words: Int32Array<SharedArrayBuffer>;
  readonly maxVcpus: number;
  readonly #vcpus = MACHINE_WORDS + MAX_WORKERS * WORKER_WORDS;
  readonly #ready: number;
  readonly rowWords: number;

  /** @param maxVcpus capacity; @param host of this thread; @param buffer another thread's memory, or none to allocate it */
  constructor(maxVcpus: number, host: HostThread, buffer?: SharedArrayBuffer) {
    this.maxVcpus = maxVcpus;
    this.host = host;
    this.rowWords = Math.ceil(maxVcpus / 32);
    this.#ready = this.#vcpus + maxVcpus * VCPU_WORDS;
    this.buffer = buffer ?? new SharedArrayBuffer(4 * (this.#ready + MAX_WORKERS * this.rowWords));
    this.words = new Int32Array(this.buffer);
  }

  /** @returns index in `words` of a worker's word. */
  worker(worker: number, word: number): number {
    return MACHINE_WORDS + worker * WORKER_WORDS + word;
  }

  home(vcpuIndex: number): number {
    return this.words[this.#vcpus + vcpuIndex * VCPU_WORDS + VcpuWord.home];
  }

  setHome(vcpuIndex: number, worker: number): void {
    Atomics.store(this.words, this.#vcpus + vcpuIndex * VCPU_WORDS + VcpuWord.home, worker);
  }

  /** @returns index in `words` of the vCPU's request word. */
  request(vcpuIndex: number): number {
    return this.#vcpus + vcpuIndex * VCPU_WORDS + VcpuWord.request;
  }

  runState(vcpuIndex: number): RunState {
    return Atomics.load(this.words, this.#vcpus + vcpuIndex * VCPU_WORDS + VcpuWord.runState) as RunState;
  }

  setRunState(vcpuIndex: number, state: RunState): void {
    Atomics.add(this.words, this.#vcpus + vcpuIndex * VCPU_WORDS + VcpuWord.changes, 1);
    Atomics.store(this.words, this.#vcpus + vcpuIndex * VCPU_WORDS + VcpuWord.runState, state);
  }

  /**
   * Whether no vCPU can run again by anything that a vCPU does: each waits for a SIPI, is parked, or halted with interrupts
   * off, and nothing is on its way to any. Looked at twice: if none published anything in between, all were so at once.
   */
  isHaltedForGood(): boolean {
    const changes = this.#changesIfHalted();
    return changes >= 0 && this.#changesIfHalted() === changes;
  }

  /** @returns how often all of them published a state; -1 when one of them runs or may, or when none is halted */
  #changesIfHalted(): number {
    const { words } = this;
    let changes = 0;
    let halted = 0;
    for (let vcpuIndex = 0; vcpuIndex < this.maxVcpus; vcpuIndex++) {
      const at = this.#vcpus + vcpuIndex * VCPU_WORDS;
      const state = Atomics.load(words, at + VcpuWord.runState);
      if (state === RunState.running || state === RunState.halted) return -1;
      if (state === RunState.absent) continue;
      if (state === RunState.haltedWithoutIf) halted++;
      const ready = Atomics.load(words, this.readyRow(words[at + VcpuWord.home]) + (vcpuIndex >>> 5));
      if (((ready >>> (vcpuIndex & 31)) & 1) !== 0 || Atomics.load(words, at + VcpuWord.request) !== 0) return -1;
      // Last: who was woken before, and has halted again since its count was read, would look as if it had never run.
      changes += Atomics.load(words, at + VcpuWord.changes);
    }
    return halted > 0 ? changes : -1;
  }

  /** @returns index in `words` of the first ready word of a worker's row. */
  readyRow(worker: number): number {
    return this.#ready + worker * this.rowWords;
  }
}
