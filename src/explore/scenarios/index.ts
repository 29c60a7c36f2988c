/** All scenarios, in the order in which they are told. */
import type { AnyScenario } from '../scenario.ts';
import { MAP_SCENARIOS } from './map.ts';

export const SCENARIOS: readonly AnyScenario[] = [...MAP_SCENARIOS];
