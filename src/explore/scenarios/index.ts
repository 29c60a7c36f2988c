/** All scenarios, in the order in which they are told. */
import type { AnyScenario } from '../scenario.ts';
import { LOCK_SCENARIOS } from './locks.ts';
import { MAP_SCENARIOS } from './map.ts';
import { PORT_SCENARIOS } from './ports.ts';

export const SCENARIOS: readonly AnyScenario[] = [...MAP_SCENARIOS, ...LOCK_SCENARIOS, ...PORT_SCENARIOS];
