/**
 * An interrupt wire with several ends: the sources are ORed, and every change is driven into all sinks. It is what makes
 * one ISA interrupt reach both the 8259s and the I/O APIC.
 */
import type { Line } from './device.ts';

export class Wire {
  readonly #sinks: readonly Line[];
  #sources: boolean[] = [];
  #level = false;

  constructor(...sinks: readonly Line[]) {
    this.#sinks = sinks;
  }

  get level(): boolean {
    return this.#level;
  }

  /** Adds a source, low at first, and answers its line. */
  connect(): Line {
    const source = this.#sources.push(false) - 1;
    return (level) => {
      this.#sources[source] = level;
      const any = this.#sources.includes(true);
      if (any === this.#level) return;
      this.#level = any;
      for (const sink of this.#sinks) sink(any);
    };
  }

  /** The level of each source, in the order in which they were connected. */
  save(): boolean[] {
    return [...this.#sources];
  }

  /** Drives no sink. @param sources of as many sources as are connected */
  restore(sources: readonly boolean[]): void {
    this.#sources = [...sources];
    this.#level = sources.includes(true);
  }
}
