/** A small seeded generator for what need not shrink: rigs, and the seeds of batches (mulberry32). */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 0;
  }

  /** 0 to `below` - 1. */
  below(below: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  }

  pick<T>(list: readonly T[]): T {
    const found = list[this.below(list.length)];
    if (found === undefined) throw new RangeError('nothing to pick from');
    return found;
  }
}

/** Seed of the n-th batch: the first batch has the seed itself, so that a failure in any batch is replayed by its seed. */
export const batchSeed = (seed: number, n: number): number =>
  n === 0 ? seed : new Random((seed + Math.imul(n, 0x9e3779b1)) | 0).below(0x7fffffff);

export const freshSeed = (): number => Math.floor(Math.random() * 0x7fffffff);
