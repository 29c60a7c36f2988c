/**
 * How a worker reaches the devices, which live on worker 0: its own mailbox in shared memory (shared.ts), one request at a
 * time. The requester fills the box, rings worker 0 and sleeps until the answer is there; worker 0 waits for
 * no other worker, and for main only where main waits for none, so this cannot deadlock. Worker 0 itself uses the bus directly.
 */
import { Attention, MachineWord, type SharedState, WorkerWord } from './shared.ts';
import { signalWorker } from './signals.ts';

/** What a vCPU's thread may ask of the devices. Addresses are I/O ports or guest-physical, sizes 1, 2, 4 or 8 bytes. */
export interface DevicePort {
  read(space: 'pio' | 'mmio', address: number, size: number): number;
  write(space: 'pio' | 'mmio', address: number, size: number, value: number): void;
  /** A level-triggered interrupt was ended by a vCPU: tell the I/O APICs. @param vector 0-255 */
  endOfInterrupt(vector: number): void;
  /** The CPU takes the PIC's interrupt (INTA cycle). @returns the vector, 0-255 */
  acknowledgePic(): number;
}

const BoxState = { empty: 0, request: 1, answer: 2 } as const;
const Operation = { pioRead: 0, pioWrite: 1, mmioRead: 2, mmioWrite: 3, endOfInterrupt: 4, acknowledgePic: 5 } as const;

/** A sleeping requester looks up this often, in case the machine stops and nobody will answer. */
const STOP_CHECK_MS = 100;

const low = (value: number): number => value | 0;
const high = (value: number): number => Math.floor(value / 2 ** 32) | 0;
const join = (lowWord: number, highWord: number): number => (lowWord >>> 0) + (highWord >>> 0) * 2 ** 32;

/** The requester's side, on worker k. */
export class RemoteDevices implements DevicePort {
  readonly #shared: SharedState;
  readonly #worker: number;

  constructor(shared: SharedState, worker: number) {
    this.#shared = shared;
    this.#worker = worker;
  }

  read(space: 'pio' | 'mmio', address: number, size: number): number {
    return this.#call(space === 'pio' ? Operation.pioRead : Operation.mmioRead, address, size, 0);
  }

  write(space: 'pio' | 'mmio', address: number, size: number, value: number): void {
    this.#call(space === 'pio' ? Operation.pioWrite : Operation.mmioWrite, address, size, value);
  }

  endOfInterrupt(vector: number): void {
    this.#call(Operation.endOfInterrupt, 0, 0, vector);
  }

  acknowledgePic(): number {
    return this.#call(Operation.acknowledgePic, 0, 0, 0);
  }

  #call(operation: number, address: number, size: number, value: number): number {
    const { words } = this.#shared;
    const box = this.#shared.worker(this.#worker, 0);
    words[box + WorkerWord.operation] = operation;
    words[box + WorkerWord.addressLow] = low(address);
    words[box + WorkerWord.addressHigh] = high(address);
    words[box + WorkerWord.size] = size;
    words[box + WorkerWord.valueLow] = low(value);
    words[box + WorkerWord.valueHigh] = high(value);
    const state = box + WorkerWord.boxState;
    Atomics.store(words, state, BoxState.request);
    signalWorker(this.#shared, 0, Attention.mailbox);
    while (Atomics.load(words, state) === BoxState.request) {
      if (Atomics.load(words, box + WorkerWord.attention) & Attention.stop) return 0xffff_ffff;
      this.#shared.host.wait(words, state, BoxState.request, STOP_CHECK_MS);
    }
    Atomics.store(words, state, BoxState.empty);
    return join(words[box + WorkerWord.valueLow], words[box + WorkerWord.valueHigh]);
  }
}

/** Worker 0's side: answers every request that is there. */
export function serveMailboxes(shared: SharedState, devices: DevicePort): void {
  const { words } = shared;
  const workers = Atomics.load(words, MachineWord.workers);
  for (let worker = 1; worker < workers; worker++) {
    const box = shared.worker(worker, 0);
    const state = box + WorkerWord.boxState;
    if (Atomics.load(words, state) !== BoxState.request) continue;
    const address = join(words[box + WorkerWord.addressLow], words[box + WorkerWord.addressHigh]);
    const value = join(words[box + WorkerWord.valueLow], words[box + WorkerWord.valueHigh]);
    const answer = serve(devices, words[box + WorkerWord.operation], address, words[box + WorkerWord.size], value);
    words[box + WorkerWord.valueLow] = low(answer);
    words[box + WorkerWord.valueHigh] = high(answer);
    Atomics.store(words, state, BoxState.answer);
    Atomics.notify(words, state);
  }
}

function serve(devices: DevicePort, operation: number, address: number, size: number, value: number): number {
  switch (operation) {
    case Operation.pioRead:
      return devices.read('pio', address, size);
    case Operation.mmioRead:
      return devices.read('mmio', address, size);
    case Operation.pioWrite:
      devices.write('pio', address, size, value);
      return 0;
    case Operation.mmioWrite:
      devices.write('mmio', address, size, value);
      return 0;
    case Operation.endOfInterrupt:
      devices.endOfInterrupt(value);
      return 0;
    default:
      return devices.acknowledgePic();
  }
}
