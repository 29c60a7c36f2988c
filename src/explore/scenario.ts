/**
 * What is explored: some memory, threads that use it by the code as it is, and a promise that must hold however their
 * accesses interleave. README.md says how to write one.
 */
import type { Region } from './memory.ts';

/** The file whose contract a promise is taken from. */
export type ContractFile = 'apic/layout.ts' | 'apic/map.ts' | 'apic/lock.ts' | 'machine/shared/shared.ts';

export interface Scenario<World = unknown> {
  /** As the command takes it. */
  readonly name: string;
  /** The sentence that is checked, and the file that says it. */
  readonly promise: string;
  readonly from: ContractFile;
  /** Makes the memory, as it is before the threads start. Once for each exploration. */
  world(): { readonly regions: readonly Region[]; readonly world: World };
  /**
   * The threads, by name. Each is set up anew for each run, on memory as it is at first; what it writes there is taken back. What it
   * answers is its body, run by the explorer, whose result (a number, or nothing, which is 0) `check` gets.
   */
  readonly threads: Readonly<Record<string, (world: World) => () => unknown>>;
  /** Looks at memory when all are done. @returns what is broken, or an empty string */
  check(world: World, results: readonly number[]): string;
  /**
   * 'expire': waits with a time limit end by it when nobody can go on, and that is as it should be. Otherwise it is a lost
   * wake-up that only the limit makes good.
   */
  readonly timeLimits?: 'expire';
}

/** A list of scenarios with worlds of different types. */
// biome-ignore lint/suspicious/noExplicitAny: each is used only with its own world
export type AnyScenario = Scenario<any>;
