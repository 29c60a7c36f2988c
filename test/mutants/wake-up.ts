/** What keeps a wake-up from being lost, broken one by one: unit tests of the run loop notice it, and schedules do. */
import type { Mutant } from './mutant.ts';

const SCHEDULER = 'src/machine/loop/scheduler.ts';
const SIGNALS = 'src/machine/shared/signals.ts';

export const WAKE_UP: readonly Mutant[] = [
  {
    name: 'the owner does not look at the request after it published `guest`',
    file: SCHEDULER,
    find: '      if (words[request] !== 0) {\n        Atomics.store(words, this.#guest, GUEST_NONE);\n        continue;\n      }\n',
    replace: '',
  },
  {
    name: 'the owner clears its ready bit and does not look at the request once more',
    file: SCHEDULER,
    find: 'if (Atomics.load(words, request) !== 0) this.#setReady(cpu.vcpuIndex);',
    replace: '',
  },
  {
    name: 'attention is loaded and then cleared',
    file: SCHEDULER,
    find: 'const bits = Atomics.exchange(this.#words, this.#attention, 0);',
    replace:
      'const bits = Atomics.load(this.#words, this.#attention);\n    Atomics.store(this.#words, this.#attention, 0);',
  },
  {
    name: 'stop does not stay set',
    file: SCHEDULER,
    find: 'Atomics.or(this.#words, this.#attention, Attention.stop);',
    replace: '',
  },
  {
    name: 'a sender does not kick the vCPU that runs',
    file: SIGNALS,
    find: 'if (isCurrent || (!wasReady && !isSliced)) {',
    replace: 'if (!wasReady && !isSliced) {',
  },
  {
    name: 'a sender does not kick another vCPU that runs without end',
    file: SIGNALS,
    find: 'if (isCurrent || (!wasReady && !isSliced)) {',
    replace: 'if (isCurrent) {',
  },
  {
    name: 'a sleeper is not notified',
    file: SIGNALS,
    find: '  if (guest === GUEST_IDLE) {\n    Atomics.notify(words, attention);',
    replace: '  if (guest === GUEST_IDLE) {',
  },
  {
    name: 'signalWorker does not kick',
    file: SIGNALS,
    find: '  else if (guest > 0) shared.host.kick(Atomics.load(words, shared.worker(worker, WorkerWord.threadId)));',
    replace: '',
  },
];
