/**
 * A mutex in shared memory: one word, 0 free, 1 held, 2 held and somebody may sleep. Held for microseconds (a map rebuild).
 * A thread that may block sleeps in Atomics.wait; one that may not (the main thread of a browser, or memory that is not
 * shared, where nobody can contend) spins.
 */
const FREE = 0;
const HELD = 1;
const CONTENDED = 2;
const SPINS = 100; // about a microsecond: most rebuilds of small machines are over by then

export function lock(words: Int32Array, at: number): void {
  for (let spin = 0; spin < SPINS; spin++) {
    if (Atomics.compareExchange(words, at, FREE, HELD) === FREE) return;
  }
  while (Atomics.exchange(words, at, CONTENDED) !== FREE) sleepWhile(words, at, CONTENDED);
}

export function unlock(words: Int32Array, at: number): void {
  if (Atomics.exchange(words, at, FREE) === CONTENDED) Atomics.notify(words, at, 1);
}

function sleepWhile(words: Int32Array, at: number, value: number): void {
  try {
    Atomics.wait(words, at, value);
  } catch {
    // This thread may not block: the caller's loop spins.
  }
}
