/** All scenarios, in the order in which they are told. */
import type { AnyScenario } from '../scenario.ts';
import { CONTROL_SCENARIOS } from './control.ts';
import { DEVICE_SCENARIOS } from './devices.ts';
import { HALTED_SCENARIOS } from './halted.ts';
import { LOCK_SCENARIOS } from './locks.ts';
import { MAP_SCENARIOS } from './map.ts';
import { PORT_SCENARIOS } from './ports.ts';
import { WAKE_SCENARIOS } from './wake-up.ts';

export const SCENARIOS: readonly AnyScenario[] = [
  ...MAP_SCENARIOS,
  ...LOCK_SCENARIOS,
  ...PORT_SCENARIOS,
  ...WAKE_SCENARIOS,
  ...DEVICE_SCENARIOS,
  ...CONTROL_SCENARIOS,
  ...HALTED_SCENARIOS,
];
