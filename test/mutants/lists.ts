/** The lists that there are. */
import { makeLoop } from './loop.ts';
import type { MutantList } from './mutant.ts';
import { apic, devices, map } from './parts.ts';
import { apicProtocols, machineProtocols } from './protocols.ts';

/** Those that take less than a minute. @param seed of the random ones */
export const listsByDefault = (seed: number): readonly MutantList[] => [makeLoop(seed), apic, map, devices];

/** Those that are explored for each mutant. */
export const PROTOCOLS: readonly MutantList[] = [apicProtocols, machineProtocols];
