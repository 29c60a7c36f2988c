/**
 * Who wakes whom: the sender's half of the kick protocol that shared.ts describes. Any thread may use it.
 * A worker that sleeps is woken through its attention word, one that is in KVM_RUN by a signal (`HostThread.kick`), one that
 * runs JavaScript looks by itself before it enters a guest.
 */
import { Attention, GUEST_IDLE, type SharedState, WorkerWord } from './shared.ts';

/** Number of a thread that is no worker (main), for `wakeVcpu`. */
export const NOT_A_WORKER = -1;

/** Sets attention bits of a worker and makes it look at them, wherever it is. */
export function signalWorker(shared: SharedState, worker: number, bits: number): void {
  const { words } = shared;
  const attention = shared.worker(worker, WorkerWord.attention);
  Atomics.or(words, attention, bits);
  const guest = Atomics.load(words, shared.worker(worker, WorkerWord.guest));
  if (guest === GUEST_IDLE) Atomics.notify(words, attention);
  else if (guest > 0) shared.host.kick(Atomics.load(words, shared.worker(worker, WorkerWord.threadId)));
}

/** Tells a worker to end, and wakes it from whatever it sleeps on. */
export function stopWorker(shared: SharedState, worker: number): void {
  signalWorker(shared, worker, Attention.stop);
  Atomics.notify(shared.words, shared.worker(worker, WorkerWord.boxState));
  Atomics.notify(shared.words, shared.worker(worker, WorkerWord.backlog));
}

/**
 * Tells the home worker of `vcpuIndex` that its APIC, or anything else that decides whether it runs, has changed.
 * @param self the calling worker's number, or NOT_A_WORKER
 */
export function wakeVcpu(shared: SharedState, vcpuIndex: number, self: number): void {
  const { words } = shared;
  const home = shared.home(vcpuIndex);
  Atomics.store(words, shared.request(vcpuIndex), 1);
  const bit = 1 << (vcpuIndex & 31);
  const wasReady = (Atomics.or(words, shared.readyRow(home) + (vcpuIndex >>> 5), bit) & bit) !== 0;
  const attention = shared.worker(home, WorkerWord.attention);
  if (!wasReady) Atomics.or(words, attention, Attention.reschedule);
  if (home === self) return;
  const guest = Atomics.load(words, shared.worker(home, WorkerWord.guest));
  if (guest === GUEST_IDLE) {
    Atomics.notify(words, attention);
  } else if (guest > 0) {
    const isCurrent = guest >> 1 === vcpuIndex + 1;
    const isSliced = (guest & 1) !== 0;
    if (isCurrent || (!wasReady && !isSliced)) {
      shared.host.kick(Atomics.load(words, shared.worker(home, WorkerWord.threadId)));
    }
  }
}
