/**
 * A mutex in shared memory: one word, 0 free, 1 held, 2 held and somebody may sleep. Held for microseconds (a map rebuild).
 * A thread that may block sleeps in Atomics.wait; one that may not (the main thread of a browser, or memory that is not
 * shared, where nobody can contend) spins.
 *
 * Whoever takes it gives it back in a `finally`. A thread that is ended from outside cannot: the others then wait up to a
 * limit and say so, rather than for ever.
 */
const FREE = 0;
const HELD = 1;
const CONTENDED = 2;
const SPINS = 100; // about a microsecond: most rebuilds of small machines are over by then
const SLICE_MILLIS = 100;
/** A rebuild of 4,096 APICs takes 0.1 ms; this many slices is longer than a busy host leaves a thread waiting. */
const SLICES = 100;
/** Of a thread that may not block: some seconds. */
const HOPELESS_SPINS = 1e8;

/**
 * @param what is being done under it, for the message
 * @param slices how many times to wait for SLICE_MILLIS
 * @throws Error when it is not given back in time
 */
export function lock(words: Int32Array, at: number, what: string, slices = SLICES): void {
  for (let spin = 0; spin < SPINS; spin++) {
    if (Atomics.compareExchange(words, at, FREE, HELD) === FREE) return;
  }
  let left = slices;
  let spins = HOPELESS_SPINS;
  while (Atomics.exchange(words, at, CONTENDED) !== FREE) {
    const outcome = sleepWhile(words, at, CONTENDED);
    if (outcome === 'timed-out' && --left === 0) throw abandoned(what);
    if (outcome === 'spin' && --spins === 0) throw abandoned(what);
  }
}

export function unlock(words: Int32Array, at: number): void {
  if (Atomics.exchange(words, at, FREE) === CONTENDED) Atomics.notify(words, at, 1);
}

const abandoned = (what: string): Error =>
  new Error(`${what} was begun by a thread that has ended or hangs; these APICs cannot go on: make new ones`);

function sleepWhile(words: Int32Array, at: number, value: number): 'ok' | 'not-equal' | 'timed-out' | 'spin' {
  try {
    return Atomics.wait(words, at, value, SLICE_MILLIS);
  } catch {
    return 'spin'; // this thread may not block
  }
}
