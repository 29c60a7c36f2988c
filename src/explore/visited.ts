/**
 * States that were explored, with the fewest preemptions each was reached with. A state is known by a fingerprint of 64
 * bits: among ten million states the odds that two share one are 1 in 400,000.
 */
const FREE = 255;

export class Visited {
  #high: Int32Array;
  #low: Int32Array;
  #used: Uint8Array;
  #count = 0;

  constructor(capacity = 1 << 12) {
    this.#high = new Int32Array(capacity);
    this.#low = new Int32Array(capacity);
    this.#used = new Uint8Array(capacity).fill(FREE);
  }

  get size(): number {
    return this.#count;
  }

  /** @returns false when it was there already, reached with `used` preemptions (0-254) or fewer */
  add(high: number, low: number, used: number): boolean {
    const at = this.#find(high, low);
    const before = this.#used[at] as number;
    if (before <= used) return false;
    this.#used[at] = used;
    if (before !== FREE) return true;
    this.#high[at] = high;
    this.#low[at] = low;
    if (++this.#count * 2 > this.#used.length) this.#grow();
    return true;
  }

  #find(high: number, low: number): number {
    const mask = this.#used.length - 1;
    let at = (high ^ Math.imul(low, 0x9e3779b1)) & mask;
    while (this.#used[at] !== FREE && (this.#high[at] !== (high | 0) || this.#low[at] !== (low | 0))) {
      at = (at + 1) & mask;
    }
    return at;
  }

  #grow(): void {
    const bigger = new Visited(this.#used.length * 2);
    this.#used.forEach((used, at) => {
      if (used !== FREE) bigger.add(this.#high[at] as number, this.#low[at] as number, used);
    });
    this.#high = bigger.#high;
    this.#low = bigger.#low;
    this.#used = bigger.#used;
  }
}
