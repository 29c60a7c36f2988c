/**
 * All the memory that a scenario shares, as one row of numbered words: several buffers, one after the other, with the
 * contents that they had when the scenario was made, which is where every run starts.
 */
export interface Region {
  readonly buffer: SharedArrayBuffer | ArrayBuffer;
  /** What people call a word of it. */
  name(word: number): string;
}

interface Part {
  readonly raw: Int32Array;
  readonly initial: Int32Array;
  readonly base: number;
  readonly region: Region;
}

export class Memory {
  /** Words in all. */
  readonly length: number;
  /** The number of each buffer's first word. */
  readonly bases: ReadonlyMap<ArrayBufferLike, number>;
  readonly #parts: readonly Part[];

  constructor(regions: readonly Region[]) {
    let length = 0;
    this.#parts = regions.map((region) => {
      const raw = new Int32Array(region.buffer);
      const part = { raw, initial: raw.slice(), base: length, region };
      length += raw.length;
      return part;
    });
    this.length = length;
    this.bases = new Map(this.#parts.map(({ region, base }) => [region.buffer, base]));
  }

  /** As it was at first. */
  reset(): void {
    for (const { raw, initial } of this.#parts) raw.set(initial);
  }

  initial(): Int32Array {
    const words = new Int32Array(this.length);
    for (const { initial, base } of this.#parts) words.set(initial, base);
    return words;
  }

  write(word: number, value: number): void {
    const part = this.#part(word);
    part.raw[word - part.base] = value;
  }

  name(word: number): string {
    const part = this.#part(word);
    return part.region.name(word - part.base);
  }

  /** The words that differ from what they were at first, but for those that `shared` marks. */
  changes(shared?: Uint8Array): (readonly [word: number, value: number])[] {
    const list: (readonly [number, number])[] = [];
    for (const { raw, initial, base } of this.#parts) {
      for (let index = 0; index < raw.length; index++) {
        const value = raw[index] as number;
        if (value !== initial[index] && shared?.[base + index] !== 1) list.push([base + index, value]);
      }
    }
    return list;
  }

  #part(word: number): Part {
    const part = this.#parts.findLast(({ base }) => base <= word);
    if (part === undefined) throw new RangeError(`there is no word ${word}`);
    return part;
  }
}
