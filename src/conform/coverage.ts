/** What has been seen so far: named counters, of which none may stay at zero. */

export class Coverage {
  readonly #counts = new Map<string, number>();

  /** @param required what must be seen; other names may be counted as well */
  constructor(required: readonly string[]) {
    for (const name of required) this.#counts.set(name, 0);
  }

  hit(name: string, times = 1): void {
    this.#counts.set(name, (this.#counts.get(name) ?? 0) + times);
  }

  count(name: string): number {
    return this.#counts.get(name) ?? 0;
  }

  get entries(): readonly (readonly [name: string, count: number])[] {
    return [...this.#counts];
  }

  get missing(): readonly string[] {
    return this.entries.filter(([, count]) => count === 0).map(([name]) => name);
  }

  add(entries: Coverage['entries']): void {
    for (const [name, count] of entries) this.hit(name, count);
  }
}
