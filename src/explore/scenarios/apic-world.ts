/** The world of the APICs' scenarios: some APICs, software-enabled, and a few words of the scenario's own. */
import { type ApicHost, ApicSystem, type ApicSystemOptions, REG } from '../../apic/index.ts';
import { ApicMemory } from '../../apic/layout.ts';
import type { Region } from '../memory.ts';
import { ownWords } from '../own-words.ts';
import { apicWordName } from '../word-names.ts';

export interface ApicWorld {
  /** A thread's own view of the APICs. */
  attach(host?: Partial<ApicHost>): ApicSystem;
  /** A thread's own view of the scenario's words. */
  words(): Int32Array;
}

/**
 * @param ids APIC IDs, in order of creation
 * @param names what the scenario's own words are called
 */
export function apics(
  options: ApicSystemOptions,
  ids: readonly number[],
  names: readonly string[] = [],
): { regions: Region[]; world: ApicWorld } {
  const maxApics = Math.max(options.maxApics ?? 0, ids.length);
  const system = new ApicSystem({ maxApicId: 0x1ff, ...options, maxApics });
  for (const id of ids) system.addApic(id, { bootstrap: false }).writeMmio(REG.SPIV, 4, 0x1ff);
  const layout = ApicMemory.attach(system.memory);
  const own = ownWords(names);
  return {
    regions: [{ buffer: system.memory, name: (word) => apicWordName(layout, word) }, own.region],
    world: {
      attach: (host) => ApicSystem.attach(system.memory, host),
      words: own.view,
    },
  };
}
