/** A scenario made ready to be run: its memory, what stands between it and the code, and its threads. */
import { Interception, TOUCH } from './interception.ts';
import { Memory } from './memory.ts';
import type { AnyScenario } from './scenario.ts';
import type { State } from './state.ts';
import { type SharedWords, ThreadTree } from './thread.ts';

export class Subject {
  readonly scenario: AnyScenario;
  readonly memory: Memory;
  readonly interception: Interception;
  readonly threadNames: readonly string[];
  readonly #world: unknown;

  constructor(scenario: AnyScenario) {
    const { regions, world } = scenario.world();
    this.scenario = scenario;
    this.#world = world;
    this.memory = new Memory(regions);
    this.interception = new Interception(this.memory.bases);
    this.threadNames = Object.keys(scenario.threads);
  }

  threads(words: SharedWords): ThreadTree[] {
    const starts = Object.values(this.scenario.threads);
    return starts.map((start) => new ThreadTree(this.memory, this.interception, () => start(this.#world), words));
  }

  /** From what each thread touches: a word matters when one writes it that another touches, or when one sleeps on it. */
  sharedWords(touched: readonly Uint8Array[]): SharedWords {
    const { length } = this.memory;
    const shared = new Uint8Array(length);
    const cuts = new Uint8Array(length);
    const list: number[] = [];
    for (let word = 0; word < length; word++) {
      let touching = 0;
      let reading = 0;
      let all = 0;
      for (const each of touched) {
        const bits = each[word] as number;
        all |= bits;
        if (bits !== 0) touching++;
        if (bits & TOUCH.READ) reading++;
      }
      const matters = (touching > 1 && (all & TOUCH.WRITE) !== 0) || (all & TOUCH.SLEEP) !== 0;
      if (!matters) continue;
      list.push(word);
      shared[word] = 1;
      cuts[word] = reading > 0 ? 1 : 0;
    }
    return { list, shared, cuts };
  }

  /** All threads are done: is the promise kept? Empty, or what is broken. */
  verdict(state: State, { list }: SharedWords): string {
    const { memory } = this;
    memory.reset();
    const results: number[] = [];
    for (const [thread, { outcome }] of state.places.entries()) {
      if (outcome?.error !== undefined) return `${this.threadNames[thread]} threw: ${outcome.error}`;
      results.push(outcome?.result ?? 0);
      for (const [word, value] of outcome?.own ?? []) memory.write(word, value);
    }
    for (const word of list) memory.write(word, state.words[word] as number);
    return this.scenario.check(this.#world, results);
  }
}
